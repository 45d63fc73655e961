# gcc and make: sixty sources compiled by two jobs, an archive, a program; then what a changed header asks for and no more.
mkdir include
for n in $(seq 0 9); do echo "#define BASE $n" > include/base$n.h; done
for n in $(seq 60); do
    printf '#include <stdio.h>\n#include <stdlib.h>\n#include "base%s.h"\nint f%s(void) { return BASE; }\n' $((n % 10)) $n > f$n.c
    echo "int f$n(void);" >> all.h
    sums="${sums:-0} + f$n()"
done
printf '#include <stdio.h>\n#include "all.h"\nint main(void) { printf("%%d\\n", %s); return 0; }\n' "$sums" > main.c
cat > Makefile <<'MAKE'
sources := $(wildcard f*.c)
program: main.o lib.a
	@gcc -o $@ $^
lib.a: $(sources:.c=.o)
	@ar rcs $@ $?
%.o: %.c
	@gcc -O1 -g -MMD -Iinclude -c -o $@ $<; echo $< >> compiled
-include *.d
MAKE
make -s -j2
./program
wc -l < compiled
make -q
: > compiled
echo '#define BASE 100' > include/base7.h
make -s -j2
./program
wc -l < compiled
make -q
sha256sum *.o lib.a | sha256sum
