# tar, with all that it can keep: the tree that comes out is the one that went in, and increments hold what changed.
mkdir -p in/dir/sub in/default "in/$(printf 'long-name-%.0s' {1..20})/$(printf 'deeper-%.0s' {1..30})"
cd in
echo file > file; ln file dir/linked; ln -s ../file dir/soft; ln -s "$(printf 't%.0s' {1..300})" long-link; mkfifo fifo; : > empty
printf start > sparse; truncate -s 3M sparse; printf end >> sparse
touch -- '-rf' ' ' $'new\nline' 'back\slash' $'latin-\xff' "$(printf 'n%.0s' {1..255})"
for mode in 0 755 1755 2755 4755 6755 7777; do echo $mode > mode-$mode; chown "$OTHER" mode-$mode; chmod $mode mode-$mode; done
echo a > attributes; setfattr -n user.note -v 'some text' attributes; setfattr -n user.bytes -v 0x00ff0a attributes; setfattr -n user.dir -v d dir
cp /bin/true capable; setcap cap_net_raw,cap_net_bind_service+ep capable
echo acl > acl; setfacl -m "u:$OTHER:rw,g:$OTHER_GROUP:r" acl; setfacl -d -m "u:$OTHER:rwx,o::-" default; touch default/inherits
find . -depth -exec touch -h -d @1000000000.25 {} +
touch -d @0 old; touch -d '1965-01-02 03:04:05.123456789' older; touch -h -d @1.5 dir/soft; touch -d '2040-05-06 07:08:09.5' later
touch -d @1000000000.25 .
cd ..
show() {
    (cd "$1" && find . -printf '%p %y %m %U %G %T@ %l' \( -type d -o -printf ' %s %n' \) -printf '\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -hd -m -
        find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n)
}
all=(--xattrs --xattrs-include='*' --acls --selinux --numeric-owner -p)
show in > before
for format in pax gnu; do
    rm -rf out; mkdir out
    # GNU's own format has no place for attributes and parts of seconds.
    if [ $format = pax ]; then
        tar -C in "${all[@]}" --sparse --format=pax -cf all.tar .
        tar -C out "${all[@]}" --warning=no-timestamp -xf all.tar
        tar -C in "${all[@]}" -df all.tar
        show out | diff before - && cat before
    else
        tar -C in --sparse --format=gnu -cf all.tar .
        tar -C out --warning=no-timestamp -xf all.tar
        diff -r --no-dereference in out 2>&1 | grep -v fifo || true
    fi
    [ "$(du -k out/sparse | cut -f1)" -lt 100 ] || echo "the holes are filled"
done
cp -a in copy
show copy | diff before -
tar -C copy -g state -cf full.tar .
# What was changed just now could be changed once more within a tick of the clock.
sleep 0.1
echo more >> copy/file; mv copy/attributes copy/dir; echo new > copy/dir/new
tar -C copy -g state -cf changes.tar .
tar -tf changes.tar | grep -v '/$'
