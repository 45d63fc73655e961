# The databases of rpm and dpkg: packages are built, installed in a root of their own, brought up to date, checked, removed.
cat > tiny.spec <<'SPEC'
Name: tiny
Version: %{version}
Release: 1
Summary: tiny
License: none
BuildArch: noarch
%description
tiny
%install
mkdir -p %{buildroot}/opt/tiny %{buildroot}/etc
for n in $(seq 60); do echo "%{version} $n" > %{buildroot}/opt/tiny/$n; done
ln %{buildroot}/opt/tiny/1 %{buildroot}/opt/tiny/linked
ln -s 1 %{buildroot}/opt/tiny/link
echo setting > %{buildroot}/etc/tiny.conf
%files
/opt/tiny
%attr(4711,root,root) /opt/tiny/2
%config(noreplace) /etc/tiny.conf
SPEC
for version in 1 2; do
    rpmbuild -bb --quiet --define "_topdir $W/rpm" --define "version $version" tiny.spec 2> rpmbuild.log ||
        { cat rpmbuild.log; exit 1; }
done
mkdir root
rpm() { command rpm --root "$W/root" "$@" 2> >(grep -v -e 'use Alien' -e 'However assuming' | sed "s|$W||"); }
rpm -i rpm/RPMS/noarch/tiny-1-1.noarch.rpm
rpm -Va
for file in root/etc/tiny.conf root/opt/tiny/7; do echo changed >> $file; touch -d @0 $file; done
rpm -Va || true
rpm -U rpm/RPMS/noarch/tiny-2-1.noarch.rpm
rpm -Va || true
stat -c '%h %a' root/opt/tiny/linked root/opt/tiny/2
rpm --rebuilddb
rpmdb --root "$W/root" --verifydb
rpm -qa
rpm -e tiny
find root/opt -mindepth 1
rm root/etc/*

for version in 1 2; do
    mkdir -p deb$version/DEBIAN deb$version/opt/little deb$version/etc
    printf 'Package: little\nVersion: %s\nArchitecture: all\nMaintainer: a\nDescription: little\n' $version > deb$version/DEBIAN/control
    echo /etc/little.conf > deb$version/DEBIAN/conffiles
    echo setting > deb$version/etc/little.conf
    for n in $(seq 60); do echo "$version $n" > deb$version/opt/little/$n; done
    ln deb$version/opt/little/1 deb$version/opt/little/linked
    (cd deb$version && find etc opt -type f -exec md5sum {} + > DEBIAN/md5sums)
    dpkg-deb --root-owner-group -b deb$version little$version.deb > /dev/null
done
mkdir -p root/var/lib/dpkg/{info,updates,triggers}
touch root/var/lib/dpkg/{status,available}
dpkg() { command dpkg --root="$W/root" --log="$W/dpkg.log" --force-not-root "$@"; }
dpkg -i little1.deb > /dev/null
dpkg -V
echo changed >> root/etc/little.conf
dpkg --force-confold -i little2.deb > /dev/null
dpkg -V | sed "s|$W||"
dpkg --audit
cat root/opt/little/60
stat -c %h root/opt/little/linked
dpkg-query --admindir=root/var/lib/dpkg -W
dpkg -r little > /dev/null
dpkg -P little > /dev/null
ls -A root
