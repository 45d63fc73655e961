# Which failed tests may be tried once more? Reads what `cargo test -q` said, and prints a line for each binary in which tests
# failed: `again` or `failed`, how cargo calls the binary, ` -- --exact`, and the tests; `died` for a binary that named none.
#
# Tried again is only who waited in vain: on a loaded machine a deadline of a test's own may pass, which says nothing of the
# product. Whatever a test has seen to be wrong (of random kills, random operations) is wrong, also if it is right next time.
/^---- .* stdout ----$/ { test = $2; listing = 0; next }
/^failures:$/ { test = ""; names = ""; listing = 1; next }
test != "" && /waited in vain|value: Timeout|kind: (TimedOut|WouldBlock)|timed out/ { late[test] = 1 }
listing && /^    / { names = names " " $1; next }
listing && NF { listing = 0 }
/^error: test failed, to rerun pass/ {
    split($0, part, "`")
    again = failed = ""
    count = split(names, all, " ")
    for (n = 1; n <= count; n++)
        if (all[n] in late) again = again " " all[n]
        else failed = failed " " all[n]
    if (count == 0) print "died " part[2]
    if (again != "") print "again " part[2] " -- --exact" again
    if (failed != "") print "failed " part[2] " -- --exact" failed
    names = test = ""
    split("", late)
}
