"""The CUDA driver, asked which devices it shows, and by which names CUDA_VISIBLE_DEVICES takes them.

It is asked in short processes of their own: it alone knows CUDA's order and respects CUDA_VISIBLE_DEVICES, and a
driver that hangs or crashes must not take the scheduler with it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping

import msgspec

VISIBLE = "CUDA_VISIBLE_DEVICES"
ENUMERATE_SECONDS = 60.0
"""The driver's first start on a large machine without persistence mode can take tens of seconds."""

# The driver's C interface (cuda.h): 0 is success; the UUID is 16 bytes. `_v2` knows MIG instances.
_ENUMERATE = """
import ctypes, json
def ask():
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return [], f"the driver's library was not found ({error})", False
    found, count = [], ctypes.c_int()
    for name, arguments in (("cuInit", [0]), ("cuDeviceGetCount", [ctypes.byref(count)])):
        error, text = getattr(cuda, name)(*arguments), ctypes.c_char_p()
        if error:
            cuda.cuGetErrorName(error, ctypes.byref(text))
            return [], f"{name} of the driver failed: {(text.value or b'').decode()} ({error})", True
    get_uuid = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    for index in range(count.value):
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        name, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
        if cuda.cuDeviceGet(ctypes.byref(device), index) or get_uuid(raw, device):
            continue
        cuda.cuDeviceGetName(name, 256, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        shown = {"uuid": bytes(raw).hex(), "name": name.value.decode(errors="replace"), "memory": size.value}
        found.append(shown)
    return found, "", True
devices, trouble, loaded = ask()
print(json.dumps({"devices": devices, "trouble": trouble, "loaded": loaded}))
"""


class ShownDevice(msgspec.Struct, frozen=True):
    """A device that the driver shows."""

    uuid: str
    """32 hexadecimal digits, without the prefix of a GPU or of a MIG instance."""
    name: str
    """Model."""
    memory: int
    """Bytes."""


class Driver(msgspec.Struct, frozen=True):
    """What the driver said, in CUDA's order."""

    devices: tuple[ShownDevice, ...] = ()
    trouble: str = ""
    """Why there are none, in words."""
    loaded: bool = True
    """Its library was found."""


AskDriver = Callable[[Mapping[str, str]], Driver]


def ask_driver(environment: Mapping[str, str]) -> Driver:
    """Return what CUDA shows to a process in this environment."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ENUMERATE],
            env=dict(environment),
            capture_output=True,
            timeout=ENUMERATE_SECONDS,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Driver)
    except subprocess.TimeoutExpired:
        return Driver(trouble=f"the driver did not answer within {ENUMERATE_SECONDS:g} s")
    except OSError as error:
        return Driver(trouble=f"no process could be started that asks the driver: {error}")
    except ValueError:
        how = f"the process that asked the driver ended with status {done.returncode}"
        return Driver(trouble=how)


def full_names(
    environment: Mapping[str, str], devices: tuple[ShownDevice, ...], ask: AskDriver = ask_driver
) -> list[str]:
    """Return the devices' UUIDs as CUDA_VISIBLE_DEVICES takes them: the driver's lack the prefix GPU- or MIG-.

    CUDA_VISIBLE_DEVICES itself is tried, by which it has the last word, and not NVML, which may be missing or hang.
    """
    import uuid  # 4 ms, which a machine without CUDA need not pay

    bare = [str(uuid.UUID(hex=device.uuid)) for device in devices]
    gpus, slices = ([f"{prefix}-{each}" for each in bare] for prefix in ("GPU", "MIG"))
    if _shown(environment, gpus, ask) == [device.uuid for device in devices]:
        return gpus
    # An unknown name hides those after it, and of MIG instances a process sees only one: each by itself.
    found = zip(gpus, slices, devices, strict=True)
    return [
        piece if _shown(environment, [piece], ask) == [device.uuid] else whole
        for whole, piece, device in found
    ]


def _shown(environment: Mapping[str, str], names: list[str], ask: AskDriver) -> list[str]:
    """Return the UUIDs of what is shown under these names."""
    return [device.uuid for device in ask({**environment, VISIBLE: ",".join(names)}).devices]
