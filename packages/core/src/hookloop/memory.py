"""Running out of memory: how torch says so, and what can be given back."""

import gc

import torch


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Whether a CUDA device had no memory left."""
    if isinstance(exception, torch.cuda.OutOfMemoryError):
        return True
    return _says(exception, "CUDA", "out of memory")


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Whether cuDNN refused a shape, which it also does when it has no memory for its workspace."""
    return _says(exception, "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.")


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Whether torch could not get memory for a tensor on the CPU."""
    return _says(exception, "DefaultCPUAllocator: can't allocate memory") or _says(
        exception, "DefaultCPUAllocator: not enough memory"
    )


def is_oom_error(exception: BaseException) -> bool:
    """Whether an exception of torch says that memory ran out, on whichever device."""
    return is_cuda_out_of_memory(exception) or is_cudnn_snafu(exception) or is_out_of_cpu_memory(exception)


def _says(exception: BaseException, *parts: str) -> bool:
    return isinstance(exception, RuntimeError) and all(part in str(exception) for part in parts)


def garbage_collection_cuda() -> None:
    """Free what nobody refers to any more, and give back what torch's CUDA allocator holds in reserve."""
    gc.collect()
    if not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        # A device that is full may have no room for this either; what was freed above is free all the same.
        if not is_oom_error(error):
            raise
