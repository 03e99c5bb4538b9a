// Hooks on saved tensors (checkpointing, offloading) see cuda tensors, never the plugin's.
#pragma once

namespace heitu {

// While it lives, the hooks in force get what the plugin's nodes save as cuda tensors.
class SavedTensorScope {
 public:
  SavedTensorScope();
  ~SavedTensorScope();
  SavedTensorScope(const SavedTensorScope&) = delete;
  SavedTensorScope& operator=(const SavedTensorScope&) = delete;

 private:
  bool pushed_ = false;
};

}  // namespace heitu
