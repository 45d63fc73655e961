# PostgreSQL as its image at Docker's starts it: a cluster is made in an empty volume.
bin=/usr/lib/postgresql/15/bin
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    $bin/initdb -A trust --locale=C
    echo 'host all all all trust' >> "$PGDATA/pg_hba.conf"
fi
exec $bin/postgres -c 'listen_addresses=*' -k /tmp
