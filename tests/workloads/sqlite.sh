# SQLite's write-ahead log: three writers, one of which is killed in the middle, and a reader, each a process; the log's index
# is memory that they share through a mapped file.
cat > writer.py <<'PYTHON'
import os, sqlite3, sys
name, count = sys.argv[1], int(sys.argv[2])
base = sqlite3.connect("base", timeout=120, isolation_level=None)
base.execute("pragma wal_autocheckpoint=50")
told = os.open(name + ".told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for n in range(count):
    base.execute("begin immediate")
    base.execute("insert into t values (?, ?, randomblob(3000))", (name, n))
    base.execute("update sums set n = n + ? where name = ?", (n, name))
    base.execute("commit")
    os.write(told, b"%d\n" % n)
PYTHON
cat > reader.py <<'PYTHON'
import os, sqlite3
base = sqlite3.connect("base", timeout=120, isolation_level=None)
while not os.path.exists("end"):
    base.execute("begin")
    for name, count, last, total in base.execute("select name, count(*), max(n), sum(n) from t group by name").fetchall():
        assert count == last + 1 and total == base.execute("select n from sums where name = ?", (name,)).fetchone()[0]
    base.execute("commit")
print("the reader saw whole transactions")
PYTHON
sqlite3 base 'pragma journal_mode=wal; create table t(name, n, data); create table sums(name, n);
    create unique index i on t(name, n); insert into sums values ("a", 0), ("b", 0), ("killed", 0)'
python3 reader.py & reader=$!
python3 writer.py a 100 & a=$!
python3 writer.py b 100 & b=$!
python3 writer.py killed 1000000 & killed=$!
until [ -e killed.told ] && [ "$(wc -l < killed.told)" -ge 40 ]; do sleep 0.02; done
kill -KILL $killed
wait $killed 2> /dev/null || true
wait $a $b
touch end
wait $reader
more=$(($(sqlite3 base 'select count(*) from t where name = "killed"') - $(wc -l < killed.told)))
[ $more = 0 ] || [ $more = 1 ] || echo "$more more were made than told"
sqlite3 base 'select name, count(*) from t where name != "killed" group by name; pragma integrity_check;
    pragma wal_checkpoint(truncate)'
ls base*
