// The check of devices is the emulated device's own (PyTorch's texts for mixed devices).
#include "../../device/csrc/device_check.cpp"
