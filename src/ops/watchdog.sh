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
for each in $watched; do
    pid=${each%%:*}
    kill -s "${each##*:}" "$pid" 2>/dev/null || continue
    tenths=0
    while kill -0 "$pid" 2>/dev/null; do
        tenths=$((tenths + 1))
        [ "$tenths" -eq 150 ] && kill -s KILL "$pid" 2>/dev/null
        # A process that nobody reaps stays a name for ever: go on to the next.
        [ "$tenths" -ge 180 ] && break
        sleep 0.1
    done
done
case $scratch in
/tmp/rollcall-*) rm -rf -- "$scratch" ;;
esac
