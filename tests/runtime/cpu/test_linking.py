"""Object files linked to images: code that was linked does what its text says; anything else is refused."""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from runtime.cpu.image import HEADER, ImageError, load_image, map_file
from runtime.cpu.linking import LinkError, link

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="other hosts have no images")

TABLE = """
declare i64 @leaf(i64)
declare i64 @other(i64)
@table = hidden constant [2 x ptr] [ptr @leaf, ptr @other]
define i64 @through(i64 %n, i64 %x) {
  %place = getelementptr [2 x ptr], ptr @table, i64 0, i64 %n
  %function = load ptr, ptr %place
  %result = call i64 %function(i64 %x)
  ret i64 %result
}
define i64 @direct(i64 %n, i64 %x) {
  %result = call i64 @leaf(i64 %x)
  ret i64 %result
}
"""
LEAVES = """
@words = internal constant [4 x i64] [i64 5, i64 70, i64 900, i64 11000]
declare ptr @memset(ptr, i32, i64)
define i64 @leaf(i64 %x) {
  %at = and i64 %x, 3
  %place = getelementptr [4 x i64], ptr @words, i64 0, i64 %at
  %word = load i64, ptr %place
  %sum = add i64 %word, %x
  ret i64 %sum
}
define i64 @other(i64 %x) {
  %memory = alloca [8 x i8], align 8
  %byte = trunc i64 %x to i32
  %same = call ptr @memset(ptr %memory, i32 %byte, i64 8)
  %word = load i64, ptr %memory
  ret i64 %word
}
define double @floating(double %x) {
  %y = fmul double %x, 1.25
  ret double %y
}
define i64 @many(i64 %n) {
  switch i64 %n, label %else [
    i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e
  ]
a:
  %va = call i64 @leaf(i64 1)
  ret i64 %va
b:
  %vb = call i64 @leaf(i64 2)
  ret i64 %vb
c:
  %vc = call i64 @other(i64 3)
  ret i64 %vc
d:
  %vd = call i64 @leaf(i64 5)
  ret i64 %vd
e:
  %ve = call i64 @other(i64 9)
  ret i64 %ve
else:
  ret i64 -1
}
"""


def compiled(text: str) -> bytes:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc="pic", codemodel="small")
    code: bytes = machine.emit_object(llvm.parse_assembly(text))
    return code


@pytest.fixture(scope="module")
def image() -> bytes:
    return link([compiled(TABLE), compiled(LEAVES)], lambda name: name != "leaf")


def function(address: int, count: int) -> Callable[..., int]:
    return ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * count)(address)


def test_linked_code(image: bytes, tmp_path: Path) -> None:
    file = tmp_path / "code"
    file.write_bytes(image)
    for loaded in (load_image(image), map_file(file)):
        through = function(loaded.address("through"), 2)
        assert [through(0, x) for x in range(4)] == [5, 71, 902, 11003]
        assert through(1, 0x5A) == 0x5A5A5A5A5A5A5A5A
        assert function(loaded.address("direct"), 2)(0, 3) == 11003
        many = function(loaded.address("many"), 1)
        expected = [71, 902, 0x0303030303030303, 75, 0x0909090909090909, 2**64 - 1]
        assert [many(n) for n in range(6)] == expected
        floating = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(loaded.address("floating"))
        assert floating(3.0) == 3.75
        assert loaded.address("leaf") == loaded.address("absent") == 0


def test_code_is_not_writable(image: bytes) -> None:
    loaded = load_image(image)
    first = loaded.address("direct")
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, permissions, *_ = line.split()
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        if start <= first < end:
            assert permissions.startswith("r-x")
            break
    else:
        pytest.fail("the code isn't mapped")


@pytest.mark.parametrize(
    "text",
    [
        "@variable = global i64 5\ndefine ptr @f() {\n ret ptr @variable\n}",
        "@variable = thread_local global i64 5\ndefine ptr @f() {\n ret ptr @variable\n}",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(LinkError):
        link([compiled(text)], lambda name: True)


def test_defined_twice() -> None:
    with pytest.raises(LinkError, match="twice"):
        link([compiled(LEAVES), compiled(LEAVES)], lambda name: True)


def test_unknown_functions() -> None:
    text = "declare void @no_such_function()\ndefine void @f() {\n call void @no_such_function() ret void }"
    with pytest.raises(ImageError, match="no_such_function"):
        load_image(link([compiled(text)], lambda name: True))


def test_damaged_objects() -> None:
    code = compiled(LEAVES)
    for length in range(0, len(code), 37):
        with pytest.raises(LinkError):
            link([code[:length]], lambda name: True)


def test_damaged_images(image: bytes, tmp_path: Path) -> None:
    extent = sum(struct.unpack_from("<2I", image, 16))
    for data in (b"", image[: HEADER.size - 1], image[:4096], image[:extent], image[: extent + 5]):
        with pytest.raises(ImageError):
            load_image(data)
        file = tmp_path / "code"
        file.write_bytes(data)
        with pytest.raises(ImageError):
            map_file(file)
