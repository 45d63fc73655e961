# pip: a source distribution becomes a wheel, is installed in an environment of its own, replaced by the next, removed.
export HOME=$W PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
mkdir -p source/tiny
for n in $(seq 100); do echo "value = $n" > source/tiny/m$n.py; done
printf 'import importlib\nprint("tiny", sum(importlib.import_module(f"tiny.m{n}").value for n in range(1, 101)))\n' > source/tiny/__main__.py
echo 'def speak(): from . import __main__' > source/tiny/__init__.py
for version in 1.0 2.0; do
    printf 'from setuptools import setup\nsetup(name="tiny", version="%s", packages=["tiny"], entry_points={"console_scripts": ["tiny=tiny:speak"]})\n' $version > source/setup.py
    python3 -m pip wheel --no-build-isolation --no-deps -w wheels ./source 2> wheel.log || { cat wheel.log; exit 1; }
done
python3 -m venv --without-pip env
pip() { python3 -m pip --python env/bin/python "$@"; }
for version in 1.0 2.0; do
    pip install --upgrade "tiny==$version" --find-links wheels
    env/bin/tiny
    ls env/lib/python3.11/site-packages
done
pip check
pip uninstall -y tiny
find env/lib/python3.11/site-packages
