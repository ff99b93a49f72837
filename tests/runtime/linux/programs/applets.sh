# A long script of busybox applets. $0: the shell; B: busybox; run in an empty folder.
export LC_ALL=C TZ=UTC
# --- the shell itself
i=0; while [ $i -lt 40 ]; do i=$((i + 1)); [ $((i % 7)) = 0 ] && continue; [ $i -gt 30 ] && break; done; echo "loop $i"
for w in a "b c" d; do echo "<$w>"; done
f() { local x=$1; shift; echo "f $x $#"; return 3; }
f one two three; echo "returned $?"
case hello.txt in *.c) echo c;; *.txt) echo text;; esac
x=abcdef; echo "${x#ab} ${x%f} ${x:-no} ${y:-default} ${#x}"
(exit 5); echo "sub $?"
{ echo one; echo two; } | while read l; do echo "[$l]"; done
echo "$(echo nested $(echo deeper))"
cat <<EOF
here $((6 * 7)) document
EOF
set -- 1 2 3; echo "$# $* $@"; shift; echo "$1"
trap 'echo trapped USR1' USR1; kill -USR1 $$; echo after
trap - USR1
( trap 'echo bye' EXIT; exit 4 ); echo "exit $?"
sleep 0.2 & wait $!; echo "waited $?"
(sleep 5 & echo $! > pid; wait) & sleep 0.1; kill $(cat pid); wait; echo killed
sh -c 'kill -TERM $$'; echo "status $?"
sh -c 'exit 300'; echo "status $?"
nosuchprogram 2> /dev/null; echo "status $?"
true | false; echo "pipe $?"
yes | head -n 3
echo err >&2 2> errors; ls errors
exec 3> three; echo to three >&3; exec 3>&-; cat three
read a b < three; echo "$b/$a"
printf '%05d|%-6s|%x|%o|%c|%.3f|%e\n' 42 ab 255 8 xyz 3.14159 12345.678
test -f three -a ! -d three && echo plain
[ 3 -lt 10 ] && [ abc \< abd ] && echo compared
echo $((7 / 2)) $((7 % 3)) $((1 << 10)) $((0x1f & 9)) $((5 > 3 ? 1 : 2))
ulimit -n > /dev/null && umask
# --- text
seq 1 200 > n
seq 1 0.5 3
sort -rn n | head -n 3; sort -t: -k2 <<EOF
a:3
b:1
c:2
EOF
tail -n 2 n; wc n; grep -c 7 n; grep -n '^1.$' n | tr '\n' ' '; echo
sed -n '5,7s/$/!/p' n; sed 's/\(.\)\(.\)/\2\1/;3q' n | tail -n 1
awk '{s += $1 * 1.5 / 3} END {print s, s / 7, length("abc"), substr("hello", 2, 3), toupper("x")}' n
awk 'BEGIN {for (i = 0; i < 5; i++) a[i] = i * i; for (i = 0; i < 5; i++) printf "%d ", a[i]; print sin(1), exp(1)}'
cut -c1-2 n | uniq -c | head -n 4; cut -d: -f2 <<EOF
p:q:r
EOF
tr -d 1 < n | head -n 12 | tail -n 1; rev <<EOF
olleh
EOF
nl three; fold -w 3 three; expand three | od -c | head -n 2; od -x n | head -n 2; hexdump -C n | head -n 2
paste three three; comm three three; tac n | head -n 1; expr 7 \* 6; expr abc : 'a\(.*\)'; factor 360 2>/dev/null
dc -e '2 100 ^ p 10 k 1 3 / p'; echo '2^64; scale=5; 1/7' | bc
strings -n 4 n | head -n 1; xargs -n 3 echo < three; seq 6 | xargs -n 2 echo; diff three n | head -n 3; cmp three n
split -l 50 n part; ls part*; cat parta* | cmp - n && echo joined
tee copy < three; cat -A three
# --- sums and packing
md5sum n; sha1sum n; sha256sum n; sha512sum n | cut -c1-32; sha3sum n; cksum n; crc32 n 2> /dev/null; sum n
gzip -c n > n.gz; gzip -dc n.gz | cmp - n && echo gzip; bzip2 -c n | bunzip2 -c | md5sum; xz -dc n.xz 2>/dev/null; base64 three
uuencode three x | uudecode -o back && cmp back three && echo uu; lzop -c n 2>/dev/null | wc -c > /dev/null
mkdir -p d/e/f; echo in > d/e/f/file; ln -s file d/e/f/link; ln three d/hard
tar cf t.tar d; tar tf t.tar | sort; mkdir u; tar xf t.tar -C u; find u -type f | sort; readlink u/d/e/f/link
tar czf t.tgz d && tar tzf t.tgz | wc -l; find d | sort | cpio -o -H newc 2> /dev/null | cpio -t 2> /dev/null | sort
# --- files
cp -r d d2; mv d2 d3; rm -r d3/e; ls -R d3; chmod 640 three; stat -c '%a %s %n %F %h' three d; touch -d '2020-01-02 03:04:05' three
stat -c '%y' three; ls -l three | cut -c1-10; date -u -d @0; date -u -d '2024-02-29 12:00' +%j; du -s d | cut -f2; basename /a/b.c .c; dirname /a/b
truncate -s 1000 big; wc -c < big; dd if=n of=dd.out bs=16 skip=2 count=3 2> /dev/null; cat dd.out; echo
mkfifo p; (echo through > p &) ; cat p; [ -p p ] && echo fifo; mktemp -d /tmp/isagenXXXXXX | xargs rmdir > /dev/null && echo temporary
realpath d/../three | sed 's/.*\///'; test three -nt n || echo older; find . -name 'part*' -exec rm {} \; ; ls -d [a-z]* | tr '\n' ' '; echo
install -m 755 three inst; ls -l inst | cut -c1-10; rmdir u 2> /dev/null || echo not empty;
nice -n 1 true; nohup true 2>/dev/null; time -f x true 2> /dev/null; usleep 1000
id -u > /dev/null; uname -m; whoami > /dev/null; hostname > /dev/null; tty; cd d && pwd | sed 's/.*\///'; cd - > /dev/null
ps > /dev/null; free > /dev/null; uptime > /dev/null; df . > /dev/null; ls -l /proc/self/exe | sed 's/.*\///'
sleep 1 & jobs | sed 's/sleep.*/sleep/' ; kill %1; wait; cal 2 2024; echo 'print me' | ed -s /dev/stdin < /dev/null 2>/dev/null; echo end
