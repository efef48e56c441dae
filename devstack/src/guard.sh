# The guard of one stack. It reads "add GROUP SIGNAL" and "del GROUP" until its standard input closes, which also
# happens when the parent is killed. Then it ends every group it still knows and removes the folder $1, if given.
trap '' HUP INT QUIT TERM PIPE TSTP
groups=''

# Sets $family to the descendants of the groups' leaders. PostgreSQL and Erlang put children into groups of their own.
find_family() {
    family=''
    parents=' '
    for entry in $groups; do parents="$parents${entry%%:*} "; done
    while [ -n "$parents" ]; do
        found=''
        for stat in /proc/[0-9]*/stat; do
            read -r line <"$stat" || continue
            rest="${line##*") "}"
            rest="${rest#* }"
            case $parents in *" ${rest%% *} "*) found="$found ${line%% *}" ;; esac
        done
        family="$family$found"
        parents="${found:+$found }"
    done
}

# A group is over when it is empty, or when its leader waits only to be reaped.
drop_ended() {
    kept=''
    for entry in $groups; do
        group=${entry%%:*}
        kill -0 "-$group" || continue
        if read -r line <"/proc/$group/stat"; then
            case "${line##*") "}" in
            Z*)
                kill -KILL "-$group"
                continue
                ;;
            esac
        fi
        kept="$kept $entry"
    done
    groups=$kept
}

while read -r verb group signal; do
    case $verb in
    add) groups="$groups $group:$signal" ;;
    del)
        kept=''
        for entry in $groups; do
            [ "${entry%%:*}" = "$group" ] || kept="$kept $entry"
        done
        groups=$kept
        ;;
    esac
done

if [ -n "$groups" ]; then
    # A paused process would not see the signal. The children go first: their parent still holds their ids.
    find_family
    for pid in $family; do kill -CONT "$pid"; done
    for entry in $groups; do
        kill -CONT "-${entry%%:*}"
        kill "-${entry#*:}" "-${entry%%:*}"
    done
    tries=0
    drop_ended
    while [ -n "$groups" ] && [ "$tries" -lt 40 ]; do
        sleep 0.1
        tries=$((tries + 1))
        drop_ended
    done
    for entry in $groups; do kill -STOP "-${entry%%:*}"; done
    find_family
    for pid in $family; do kill -KILL "$pid"; done
    for entry in $groups; do kill -KILL "-${entry%%:*}"; done
fi

if [ -n "$1" ]; then
    # A process that is just dying can still add a file.
    for try in 1 2 3 4 5; do
        rm -rf -- "$1" && break
        sleep 0.2
    done
fi
