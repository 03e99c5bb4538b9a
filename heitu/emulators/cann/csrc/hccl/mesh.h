// The connections of one communicator: a socket to every other rank, all on one machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace heitu::cann {

// A piece of host memory that goes to a rank, or comes from it.
struct Piece {
  uint32_t rank;
  void* data;
  size_t bytes;
};

class Mesh {
 public:
  // Waits until all ranks that know `name` are connected. Throws std::runtime_error after five
  // minutes.
  Mesh(std::string name, uint32_t rank, uint32_t ranks);
  ~Mesh();
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  const std::string& name() const { return name_; }
  uint32_t rank() const { return rank_; }
  uint32_t ranks() const { return static_cast<uint32_t>(sockets_.size()); }

  // Sends and receives at once, in any order that makes progress. What stays on this rank is
  // copied. Throws std::runtime_error where another rank has gone.
  void exchange(std::vector<Piece> sends, std::vector<Piece> receives);

 private:
  std::string name_;
  uint32_t rank_;
  std::vector<int> sockets_;  // by rank; -1 for this one
};

// A name that no other communicator has.
std::string unique_name();

}  // namespace heitu::cann
