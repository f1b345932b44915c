# Headings for the parts of a run, and a table of how long each part took. Sourced by .ci/run and tests/run.sh: a script
# that another one starts adds its parts to the table of that one.

if [[ -z ${PART_TIMES-} ]]; then
    PART_TIMES=$(mktemp)
    export PART_TIMES
    part_times_are_ours=yes
fi

# Begins a part, and ends the one before.
part() {
    end_part
    part_title=$1
    part_begin=$SECONDS
    part_cpu=$(children_cpu)
    printf '\n=== %s ===\n' "$part_title"
}

end_part() {
    [[ -n ${part_title-} ]] || return 0
    printf '%d\t%d\t%s\n' $((SECONDS - part_begin)) $(($(children_cpu) - part_cpu)) "$part_title" >>"$PART_TIMES"
    part_title=
}

# CPU seconds, user and system, of all processes that this shell has waited for: fields 16 and 17 of proc_pid_stat(5).
children_cpu() {
    local fields=()
    [[ ! -r /proc/$$/stat ]] || read -r -a fields </proc/$$/stat
    echo $(((${fields[15]-0} + ${fields[16]-0}) / 100))
}

# Ends the last part. The script that began the table prints it.
print_part_times() {
    end_part
    [[ -n ${part_times_are_ours-} ]] || return 0
    printf '\n%8s %8s  part\n' seconds 'CPU s'
    awk -F '\t' '{ printf "%8d %8d  %s\n", $1, $2, $3; wall += $1; cpu += $2 }
        END { printf "%8d %8d  all\n", wall, cpu }' "$PART_TIMES"
    rm -f "$PART_TIMES"
}
