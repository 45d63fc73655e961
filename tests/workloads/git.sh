# git: commits, clones by hard links and by copying, packs, prunes, more than one working tree.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a HOME=$W
export GIT_AUTHOR_DATE='@1 +0000' GIT_COMMITTER_DATE='@1 +0000'
git init -q -b main origin
cp -r /usr/include/linux origin
git -C origin add -A
git -C origin commit -qm one
git -C origin gc -q
for n in 1 2 3; do
    git -C origin mv linux/if_$(printf 'ether\ntun\nlink\n' | sed -n ${n}p).h moved$n.h
    echo "$n" >> origin/linux/fuse.h
    git -C origin commit -qam "change $n"
done
git clone -q origin linked
git clone -q --no-local origin copied
git -C copied checkout -q -b side HEAD~2
git -C copied rm -rq linux/netfilter
git -C copied commit -qm removed
git -C copied merge -q -m merged main
git -C linked pull -q ../copied side
git -C linked worktree add -q ../tree HEAD~1
rm -rf origin copied
git -C linked reflog expire --expire=now --all
git -C linked repack -qad
git -C linked gc -q --aggressive --prune=now
git -C linked fsck --full --strict
git -C linked rev-parse HEAD 'HEAD^{tree}'
git -C linked count-objects -v | grep -E '^(count|packs|garbage)'
git -C linked status --porcelain
git -C tree status --porcelain
git -C tree log --format=%s -1
