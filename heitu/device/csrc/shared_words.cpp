#include "shared_words.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace heitu {
namespace {

constexpr size_t kWords = size_t{1} << 17;
constexpr size_t kBytes = kWords * sizeof(Word);
static_assert(Word::is_always_lock_free, "words are shared between processes");

Word* map_words(int fd) {
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<Word*>(memory);
}

// The file of this process's words; pages that no word was taken from cost nothing.
class OwnWords {
 public:
  OwnWords() {
    fd_ = memfd_create("heitu-shared-words", MFD_CLOEXEC);
    struct stat status{};
    const bool made = fd_ >= 0 && ftruncate(fd_, off_t(kBytes)) == 0 && fstat(fd_, &status) == 0;
    words_ = made ? map_words(fd_) : nullptr;
    TORCH_CHECK(words_, "CUDA IPC: cannot make ", kBytes, " bytes of shared memory (",
                std::strerror(errno), ")");
    inode_ = status.st_ino;
  }

  OwnWord take() {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(!free_.empty() || next_ < kWords, "CUDA IPC: all ", kWords,
                " reference counters of this process are in use; wait until receivers have "
                "released what was sent");
    size_t index = next_;
    if (free_.empty()) {
      ++next_;
    } else {
      index = free_.back();
      free_.pop_back();
    }
    words_[index] = 0;
    std::shared_ptr<Word> word(words_ + index, [this, index](Word*) {
      std::lock_guard<std::mutex> lock(mutex_);
      free_.push_back(index);
    });
    return {std::move(word), {getpid(), fd_, inode_, int64_t(index)}};
  }

 private:
  std::mutex mutex_;
  int fd_;
  uint64_t inode_ = 0;
  Word* words_;
  size_t next_ = 0;
  std::vector<size_t> free_;
};

}  // namespace

OwnWord make_word() {
  static auto* words = new OwnWords;  // outlives every other static
  return words->take();
}

std::shared_ptr<Word> open_word(const WordHandle& handle) {
  TORCH_CHECK(handle.index >= 0 && size_t(handle.index) < kWords, "CUDA IPC: index ", handle.index,
              " is not one of the ", kWords, " shared words");
  const std::string path =
      "/proc/" + std::to_string(handle.pid) + "/fd/" + std::to_string(handle.fd);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status{};
  const bool same = fd >= 0 && fstat(fd, &status) == 0 && status.st_ino == handle.inode;
  Word* words = same ? map_words(fd) : nullptr;
  if (fd >= 0) close(fd);
  TORCH_CHECK(words, "CUDA IPC: process ", handle.pid,
              " has ended, or it is another user's; what it shared cannot be opened");
  return {words + handle.index, [words](Word*) { munmap(words, kBytes); }};
}

}  // namespace heitu
