# rsync: trees with hard links, attributes, ACLs, holes and odd names are copied, compared, brought up to date.
tree() { find "$1" -mindepth 1 -printf '%P %y %m %U %G %T@ %l' \( -type d -o -printf ' %s' \) -printf '\n' | sort; }
links() { (cd "$1" && find . ! -type d -links +1 -printf '%i %P\n' | sort | awk '{ of[$1] = of[$1] " " $2; names[$1]++ }
    END { for (i in of) if (names[i] > 1) print of[i] }' | sort); }
same() { rsync -aHAXn --checksum --delete -i "$1/" "$2/"; diff <(tree "$1") <(tree "$2"); diff <(links "$1") <(links "$2"); }
# rsync takes times within the same second for equal.
dated() { find from -newermt '1 day ago' -exec touch -h -d "$1 03:04:05.678" {} +; }
mkdir from
cp -a /usr/share/zoneinfo /usr/lib/python3/dist-packages/pip from
mkdir from/farm from/acl
for n in $(seq 30); do echo "$n" > from/farm/$n; for m in 1 2 3; do ln from/farm/$n from/farm/$n.$m; done; done
truncate -s 5M from/sparse; printf end >> from/sparse; mkfifo from/fifo; ln from/fifo from/fifo-too
ln -s nowhere from/dangling; ln from/dangling from/dangling-too
touch "from/$(printf 'n%.0s' {1..255})" $'from/new\nline' $'from/latin-\xff'
echo a > from/attributes; setfattr -n user.note -v text from/attributes; setfattr -n user.large -v "$(printf 'v%.0s' {1..3000})" from
setfacl -m "u:$OTHER:rw" from/farm/1; setfacl -d -m "u:$OTHER:rx,m:rx" from/acl; touch -d '1965-01-02 03:04:05.678' from/acl/old
chown -h "$OTHER" from/attributes from/dangling; chmod 4711 from/farm/2; chmod 1777 from/acl
dated 2020-01-02

rsync -aHAXS from/ to
same from to
find to -type f -links +1 | wc -l
[ "$(du -k to/sparse | cut -f1)" -lt 100 ] || echo "the holes are filled"
rsync -aHAX --link-dest="$W/to" from/ snapshot
same from snapshot
find snapshot -type f -links 1 | wc -l
rm -rf snapshot
rm -r from/pip/_internal; mv from/farm from/moved; echo more >> from/moved/5; rm from/moved/6.1; ln from/moved/7 from/again
setfattr -x user.large from; setfacl -b from/moved/1; printf middle | dd of=from/sparse bs=1 seek=2000000 conv=notrunc status=none
dated 2021-01-02
rsync -aHAX --inplace --delete from/ to
same from to
tree to | sha256sum
links to | wc -l
