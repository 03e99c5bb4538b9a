#include "hccl/mesh.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>
#include <thread>

namespace heitu::cann {
namespace {

constexpr auto kPatience = std::chrono::minutes(5);

// An address in the kernel's own name space, so nothing is left behind in a file system.
sockaddr_un address_of(const std::string& name, uint32_t rank, socklen_t& length) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string text = "heitu-hccl-" + name + "-" + std::to_string(rank);
  if (text.size() + 1 > sizeof address.sun_path)
    throw std::runtime_error("HCCL: name too long: " + text);
  std::memcpy(address.sun_path + 1, text.data(), text.size());
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return address;
}

[[noreturn]] void fail_socket(const std::string& what) {
  throw std::runtime_error("HCCL: " + what + ": " + std::strerror(errno));
}

int new_socket() {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) fail_socket("no socket");
  return socket;
}

int connect_to(const std::string& name, uint32_t peer, uint32_t rank) {
  socklen_t length;
  const auto address = address_of(name, peer, length);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    const int socket = new_socket();
    if (connect(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0) {
      if (write(socket, &rank, sizeof rank) != sizeof rank) fail_socket("greeting");
      return socket;
    }
    close(socket);
    if (std::chrono::steady_clock::now() > deadline) {
      throw std::runtime_error("HCCL: rank " + std::to_string(peer) + " did not come");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

// The next piece of each rank in a direction; pieces of one rank go in their order.
std::vector<size_t> heads(const std::vector<Piece>& pieces) {
  std::vector<size_t> first;
  std::vector<uint32_t> seen;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].bytes == 0) continue;
    if (std::find(seen.begin(), seen.end(), pieces[i].rank) != seen.end()) continue;
    seen.push_back(pieces[i].rank);
    first.push_back(i);
  }
  return first;
}

void advance(Piece& piece, ssize_t bytes) {
  piece.data = static_cast<char*>(piece.data) + bytes;
  piece.bytes -= static_cast<size_t>(bytes);
}

}  // namespace

Mesh::Mesh(std::string name, uint32_t rank, uint32_t ranks)
    : name_(std::move(name)), rank_(rank), sockets_(ranks, -1) {
  // Every rank listens, connects to those below it and is connected to by those above it.
  const int listener = new_socket();
  socklen_t length;
  const auto own = address_of(name_, rank_, length);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&own), length) != 0) fail_socket("bind");
  if (listen(listener, static_cast<int>(ranks)) != 0) fail_socket("listen");
  for (uint32_t peer = 0; peer < rank_; ++peer) sockets_[peer] = connect_to(name_, peer, rank_);
  for (uint32_t missing = ranks - rank_ - 1; missing > 0; --missing) {
    pollfd waiting{listener, POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(kPatience / std::chrono::milliseconds(1))) != 1) {
      throw std::runtime_error("HCCL: " + std::to_string(missing) + " ranks did not come");
    }
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    uint32_t peer = 0;
    if (socket < 0 || recv(socket, &peer, sizeof peer, MSG_WAITALL) != sizeof peer) {
      fail_socket("greeting");
    }
    sockets_.at(peer) = socket;
  }
  close(listener);
  for (const int socket : sockets_) {
    if (socket >= 0) fcntl(socket, F_SETFL, O_NONBLOCK);
  }
}

Mesh::~Mesh() {
  for (const int socket : sockets_) {
    if (socket >= 0) close(socket);
  }
}

void Mesh::exchange(std::vector<Piece> sends, std::vector<Piece> receives) {
  for (auto& piece : sends) {
    if (piece.rank != rank_) continue;
    const auto own = std::find_if(receives.begin(), receives.end(), [&](const Piece& other) {
      return other.rank == rank_ && other.bytes > 0;
    });
    if (own == receives.end()) continue;
    std::memmove(own->data, piece.data, std::min(own->bytes, piece.bytes));
    own->bytes = 0;
    piece.bytes = 0;
  }
  while (true) {
    std::vector<pollfd> waiting;
    std::vector<Piece*> pieces;
    for (const size_t i : heads(sends)) {
      waiting.push_back({sockets_.at(sends[i].rank), POLLOUT, 0});
      pieces.push_back(&sends[i]);
    }
    const size_t sending = pieces.size();
    for (const size_t i : heads(receives)) {
      waiting.push_back({sockets_.at(receives[i].rank), POLLIN, 0});
      pieces.push_back(&receives[i]);
    }
    if (pieces.empty()) return;
    if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) fail_socket("poll");
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (waiting[i].revents == 0) continue;
      const ssize_t moved =
          i < sending ? send(waiting[i].fd, pieces[i]->data, pieces[i]->bytes, MSG_NOSIGNAL)
                      : recv(waiting[i].fd, pieces[i]->data, pieces[i]->bytes, 0);
      if (moved > 0) {
        advance(*pieces[i], moved);
      } else if (moved == 0 || (errno != EAGAIN && errno != EINTR)) {
        throw std::runtime_error("HCCL: rank " + std::to_string(pieces[i]->rank) + " has gone");
      }
    }
  }
}

std::string unique_name() {
  std::random_device source;
  std::string name;
  for (int i = 0; i < 4; ++i) {
    char word[9];
    std::snprintf(word, sizeof word, "%08x", source());
    name += word;
  }
  return name;
}

}  // namespace heitu::cann
