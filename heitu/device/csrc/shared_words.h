// Words of 8 bytes that other processes can map: reference counters and the times of events.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace heitu {

using Word = std::atomic<int64_t>;

// Where a word lies, for another process; valid while the process that made it lives.
struct WordHandle {
  int64_t pid = 0;
  int64_t fd = -1;     // of the file of words, in process `pid`
  uint64_t inode = 0;  // guards against a reused descriptor
  int64_t index = -1;
};

// A word of this process, 0 at first; free for others when the last holder lets go.
struct OwnWord {
  std::shared_ptr<Word> word;
  WordHandle handle;
};
OwnWord make_word();

// A word of another process, or of this one. Throws c10::Error if that process is gone.
std::shared_ptr<Word> open_word(const WordHandle& handle);

}  // namespace heitu
