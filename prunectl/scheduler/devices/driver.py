"""The CUDA driver, asked which devices it shows, and by which names CUDA_VISIBLE_DEVICES takes them.

It is asked in short processes of their own: it alone knows CUDA's order and respects CUDA_VISIBLE_DEVICES, and a
driver that hangs or crashes must not take the scheduler with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from prunectl.child import Asked, NoAnswer

VISIBLE = "CUDA_VISIBLE_DEVICES"
ENUMERATE_SECONDS = 60.0
"""The driver's first start on a large machine without persistence mode can take tens of seconds."""

# The driver's C interface (cuda.h): 0 is success; the UUID is 16 bytes. `_v2` knows MIG instances. Attributes 75 and 76
# are CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, 20 is CU_DEVICE_ATTRIBUTE_COMPUTE_MODE.
_ENUMERATE = """
import ctypes, json
def ask():
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"trouble": f"the driver's library was not found ({error})", "loaded": False}
    found, count, version = [], ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    for name, arguments in (("cuInit", [0]), ("cuDeviceGetCount", [ctypes.byref(count)])):
        error, text = getattr(cuda, name)(*arguments), ctypes.c_char_p()
        if error:
            cuda.cuGetErrorName(error, ctypes.byref(text))
            said = f"{name} of the driver failed: {(text.value or b'').decode()} ({error})"
            return {"trouble": said, "error": error, "cuda": version.value}
    get_uuid = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    for index in range(count.value):
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        name, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
        if cuda.cuDeviceGet(ctypes.byref(device), index) or get_uuid(raw, device):
            continue
        cuda.cuDeviceGetName(name, 256, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        shown = {"uuid": bytes(raw).hex(), "name": name.value.decode(errors="replace"), "memory": size.value}
        major, minor, mode = (ctypes.c_int() for _ in range(3))
        for number, value in ((75, major), (76, minor), (20, mode)):
            cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        found.append({**shown, "capability": [major.value, minor.value], "compute_mode": mode.value})
    return {"devices": found, "cuda": version.value}
print(json.dumps(ask()))
"""


class ShownDevice(msgspec.Struct, frozen=True):
    """A device that the driver shows."""

    uuid: str
    """32 hexadecimal digits, without the prefix of a GPU or of a MIG instance."""
    name: str
    """Model."""
    memory: int
    """Bytes."""
    capability: tuple[int, int] = (0, 0)
    """Compute capability, major and minor."""
    compute_mode: int = 0
    """CUcomputemode: 0 default, 2 prohibited, 3 exclusive to a process."""


class Driver(msgspec.Struct, frozen=True):
    """What the driver said, in CUDA's order."""

    devices: tuple[ShownDevice, ...] = ()
    trouble: str = ""
    """Why there are none, in words."""
    loaded: bool = True
    """Its library was found."""
    answered: bool = True
    """It neither hung nor crashed."""
    error: int = 0
    """CUresult of the call that failed."""
    cuda: int = 0
    """The newest CUDA that it supports: 13000 for 13.0."""


AskDriver = Callable[[Mapping[str, str]], Driver]


def ask_driver(environment: Mapping[str, str], seconds: float = ENUMERATE_SECONDS) -> Driver:
    """Return what CUDA shows to a process in this environment, if the driver answers in time."""
    try:
        asked = Asked([sys.executable, "-I", "-S", "-c", _ENUMERATE], seconds, environment)
        return msgspec.json.decode(asked.answer(), type=Driver)
    except OSError as error:
        return Driver(trouble=f"no process could be started that asks the driver: {error}")
    except (NoAnswer, ValueError) as error:
        return Driver(trouble=f"the process that asks the driver: {error}", answered=False)


def full_names(
    environment: Mapping[str, str], devices: tuple[ShownDevice, ...], ask: AskDriver = ask_driver
) -> list[str]:
    """Return the devices' UUIDs as CUDA_VISIBLE_DEVICES takes them: the driver's lack the prefix GPU- or MIG-.

    CUDA_VISIBLE_DEVICES itself is tried, by which it has the last word, and not NVML, which may be missing or hang.
    """
    import uuid  # 4 ms, which a machine without CUDA need not pay

    bare = [str(uuid.UUID(hex=device.uuid)) for device in devices]
    gpus, slices = ([f"{prefix}-{each}" for each in bare] for prefix in ("GPU", "MIG"))
    shown = ask({**environment, VISIBLE: ",".join(gpus)})
    # A driver that hangs by now would hang for each device, a minute each.
    if not shown.answered or _shows(shown, devices):
        return gpus
    # An unknown name hides those after it, and of MIG instances a process sees only one: each by itself.
    found = zip(gpus, slices, devices, strict=True)
    return [
        piece if _shows(ask({**environment, VISIBLE: piece}), [device]) else whole
        for whole, piece, device in found
    ]


def _shows(driver: Driver, devices: Sequence[ShownDevice]) -> bool:
    return [each.uuid for each in driver.devices] == [each.uuid for each in devices]
