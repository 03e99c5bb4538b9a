// torch.cuda.FloatTensor and its kin are made to work as the emulated device has it.
#include "../../device/csrc/bindings/bind_legacy_types.cpp"
