"""Why tests of PyTorch's own do not pass here: a cause, and the patterns of what it explains.

The first pattern found in "file::class::test: outcome: message" tells.
"""

CAUSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Written for 2.6: torch has since changed what the test looks at",
        (
            r"reduced_precision_reduction_get_set",  # the getters return two values now
            r"MemPoolContext",
            r"test_mempool_multithread",  # MemPoolContext again, in its threads
            r"Unrecognized key 'foo' in Accelerator allocator config",  # a ValueError now
            r"test_cuda_module_loading_env",  # torch no longer sets the variable
            r"Muon only supports 2D parameters",  # an optimizer that the test does not know
            r"test_defaults_changed_to_foreach",  # no module torch.optim.adamw._multi_tensor_adamw
            r"read_vitals",
            r"test_dtypetensor_warnings",  # torch no longer warns
            r"alert_(Replication|kthvalue|histc)",  # torch no longer lists them as nondeterministic
            r"test_cpp_warnings_have_python_context",  # fails alike on torch without Heitu
            r"test_softshrink_negative",  # in other words now
            r"test_serialization.*(weights_only|skip_data)",  # fail alike on torch without Heitu
        ),
    ),
    (
        "Not done in the time allowed: much work for a CPU, or a test that met a busy machine",
        (r": timed out: ",),
    ),
    (
        "Needs the network, a CUDA compiler, or libtorch_cuda and libcuda themselves",
        (
            r"Name or service not known",
            r"Error building extension",
            r"undefined symbol",
            r"libcuda\.so\.1",
        ),
    ),
    (
        "More device memory than the 5 GiB given",
        (r"test_index_put_accumulate_large_tensor", r"OutOfMemoryError"),
    ),
    (
        "Not emulated: copy-on-write storages; torch._lazy_clone copies at once",
        (r"lazy_clone", r"parallel_cow"),
    ),
    (
        "Not emulated: cuBLAS's workspaces, and its demand for CUBLAS_WORKSPACE_CONFIG",
        (r"cublas_workspace", r"cublas_config"),
    ),
    (
        "Work runs in the order in which it was issued, on the caller's thread: "
        "a test for races or for threads finds none",
        (
            r"test_graph_concurrent_replay",
            r"test_backward_single_threaded",
            r"test_reentrant_parent_error_on_cpu",
        ),
    ),
    (
        "Kernels run on the host: an index out of range raises there and then, and a grid has no limit",
        (r"out_of_bounds_class_index", r"upsamplingNearest2d_launch_fail"),
    ),
    (
        "Normalization in float16 rounds as on the CPU, by a last digit otherwise than on CUDA",
        (r"InstanceNorm\dd_general", r"test_layernorm_half_precision"),
    ),
    (
        "Mended since that run",  # tests/device/test_native_ops.py and others, and the tests run again
        (
            r"alert_EmbeddingBag_max",
            r"test_advancedindex_mixed_devices_error",
            r"test_grid_sample_\w+_precision",
            r"test_ctc_loss_cudnn_tensor",
            r"test_sync_warning",
            r"test_multinomial_device_constrain",
            r"scatter_reduce_multiply_unsupported",
        ),
    ),
)
