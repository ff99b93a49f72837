"""Error numbers: names as the host's `errno` module has them, numbers as the guest's Linux has them."""

from __future__ import annotations

import errno

from runtime.errors import IsagenError


class SystemCallError(Exception):
    """A system call fails with the host's error number `number` (``errno.ENOENT``, ...)."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class CallTookOver(Exception):
    """A system call has set the registers itself: there is no result to give back."""


class GuestExit(Exception):
    """The guest process ended with `status`, 0 to 255; or was killed by the guest's signal `signal`."""

    def __init__(self, status: int, signal: int = 0) -> None:
        super().__init__(status, signal)
        self.status = status
        self.signal = signal


class LoadError(IsagenError):
    """A program that can't be started."""


class TooLongError(LoadError):
    """Arguments and environment that don't fit."""


# SPARC keeps SunOS's numbers above 34 (asm/errno.h); all others here are Linux's generic ones.
SPARC_ERRORS = (
    "EINPROGRESS=36 EALREADY=37 ENOTSOCK=38 EDESTADDRREQ=39 EMSGSIZE=40 EPROTOTYPE=41 ENOPROTOOPT=42 "
    "EPROTONOSUPPORT=43 ESOCKTNOSUPPORT=44 EOPNOTSUPP=45 EPFNOSUPPORT=46 EAFNOSUPPORT=47 EADDRINUSE=48 "
    "EADDRNOTAVAIL=49 ENETDOWN=50 ENETUNREACH=51 ENETRESET=52 ECONNABORTED=53 ECONNRESET=54 ENOBUFS=55 "
    "EISCONN=56 ENOTCONN=57 ESHUTDOWN=58 ETOOMANYREFS=59 ETIMEDOUT=60 ECONNREFUSED=61 ELOOP=62 "
    "ENAMETOOLONG=63 EHOSTDOWN=64 EHOSTUNREACH=65 ENOTEMPTY=66 EUSERS=68 EDQUOT=69 ESTALE=70 EREMOTE=71 "
    "ENOSTR=72 ETIME=73 ENOSR=74 ENOMSG=75 EBADMSG=76 EIDRM=77 EDEADLK=78 ENOLCK=79 ENONET=80 ENOLINK=82 "
    "EADV=83 ESRMNT=84 ECOMM=85 EPROTO=86 EMULTIHOP=87 EDOTDOT=88 EREMCHG=89 ENOSYS=90 ESTRPIPE=91 "
    "EOVERFLOW=92 EBADFD=93 ECHRNG=94 EL2NSYNC=95 EL3HLT=96 EL3RST=97 ELNRNG=98 EUNATCH=99 ENOCSI=100 "
    "EL2HLT=101 EBADE=102 EBADR=103 EXFULL=104 ENOANO=105 EBADRQC=106 EBADSLT=107 EBFONT=109 "
    "ELIBEXEC=110 ENODATA=111 ELIBBAD=112 ENOPKG=113 ELIBACC=114 ENOTUNIQ=115 ERESTART=116 EUCLEAN=117 "
    "ENOTNAM=118 ENAVAIL=119 EISNAM=120 EREMOTEIO=121 EILSEQ=122 ELIBMAX=123 ELIBSCN=124 ENOMEDIUM=125 "
    "EMEDIUMTYPE=126 ECANCELED=127 ENOKEY=128 EKEYEXPIRED=129 EKEYREVOKED=130 EKEYREJECTED=131 "
    "EOWNERDEAD=132 ENOTRECOVERABLE=133 ERFKILL=134"
)


def renumbering(table: str) -> dict[int, int]:
    """From the host's numbers to the guest's, for the names in `table` ("NAME=number ...")."""
    numbers = {}
    for entry in table.split():
        name, _, number = entry.partition("=")
        host = getattr(errno, name, None)
        if host is not None:
            numbers[host] = int(number)
    return numbers
