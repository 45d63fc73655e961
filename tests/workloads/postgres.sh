# PostgreSQL: made, filled, used by four clients, killed with all its processes, recovered. Then every page, index and sum is
# right, and what a client was told is there.
bin=/usr/lib/postgresql/15/bin
export HOME=$W PGHOST=$W PGUSER=postgres PGDATABASE=bench
chown postgres "$W"
as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
start() { as_postgres $bin/pg_ctl -D data -l log -s -w start -o "-k $W -c listen_addresses=" 2> start.log || { cat start.log log; exit 1; }; }
transactions() { psql -qAt -c "select count(*) from pgbench_history"; }

as_postgres $bin/initdb -D data --data-checksums -A trust --locale=C > /dev/null
start
createdb bench
pgbench -i -q -s 2 2> /dev/null
pgbench -n -c 4 -j 2 -t 100 > /dev/null
transactions

pgbench -n -c 4 -j 2 -t 100000 --log > /dev/null 2> aborted &
until [ "$(transactions)" -ge 700 ]; do sleep 0.05; done
pkill -KILL -u postgres
wait $! || true
while pgrep -u postgres > /dev/null; do sleep 0.05; done
# A backend whose postmaster dies first may still say so; and two threads may write on one line.
grep -oE 'client . (script . )?aborted' aborted | wc -l
acknowledged=$(cat pgbench_log.* | wc -l)
start
made=$(($(transactions) - 400 - acknowledged))
# Each client can have one more that it was not told of.
[ "$made" -ge 0 ] && [ "$made" -le 4 ] || echo "$acknowledged acknowledged, $made more found"
grep -o 'redo starts' log
psql -qAt -c "select sum(abalance) - (select sum(delta) from pgbench_history), sum(abalance) - (select sum(tbalance) from
    pgbench_tellers), sum(abalance) - (select sum(bbalance) from pgbench_branches) from pgbench_accounts"
pgbench -n -c 4 -j 2 -t 25 > /dev/null
psql -q -c 'vacuum full' -c 'reindex database bench'
$bin/pg_amcheck --all --install-missing --heapallindexed --rootdescend
as_postgres $bin/pg_ctl -D data -s -w stop
as_postgres $bin/pg_checksums --check -D data | grep Bad
