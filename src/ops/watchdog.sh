# Ends the processes of a parent that is gone. Reads the parent's orders from a pipe; the end of the pipe, however it came
# about (a normal end, a panic, kill -9), means: stop all that is watched, the last started first, then remove the folder.
#   scratch FOLDER      the folder to remove at the end
#   watch PID SIGNAL    stop this process by this signal
#   forget PID          it has ended
trap '' INT TERM HUP
scratch=
watched=
while read -r order first second; do
    case $order in
    scratch) scratch=$first ;;
    watch) watched="$first:$second $watched" ;;
    forget)
        left=
        for each in $watched; do
            [ "${each%%:*}" = "$first" ] || left="$left $each"
        done
        watched=$left
        ;;
    esac
done

# A zombie has ended, though nobody has taken its exit status yet: the parent may be gone, and init in no haste.
lives() {
    kill -0 "$1" 2>/dev/null || return 1
    if [ -d /proc/self ]; then
        read -r status 2>/dev/null <"/proc/$1/stat" || return 1
        status=${status##*) }
    else
        status=$(ps -o stat= -p "$1" 2>/dev/null)
    fi
    case $status in Z*) return 1 ;; esac
}

for each in $watched; do
    pid=${each%%:*}
    kill -s "${each##*:}" "$pid" 2>/dev/null
    tenths=0
    while lives "$pid"; do
        tenths=$((tenths + 1))
        # Longer than any of them takes to drain.
        [ "$tenths" -eq 150 ] && kill -s KILL "$pid" 2>/dev/null
        sleep 0.1
    done
done
case $scratch in
/tmp/rollcall-*) rm -rf -- "$scratch" ;;
esac
