# From a disassembly: the places from which a message can reach the machinery of panics, as "address function -> target".
#
# Follows direct calls and jumps from panics::hear and panics::turn. Not followed are three calls through pointers: Members::new
# asks each seat a question that it is given, and two errors of minicbor could own something to drop.
#
# Stops at the allocator, and at its ways of saying that memory is at its end: how much of it the core takes, its limits bound.
# Two more ways are known, and why neither can be taken:
#
# - Log::append asserts that the log has no gap: see "Panics" in ARCHITECTURE.md.
# - minicbor's read_array copies from a slice that it has just cut to the array's length. The compiler may put it in line into
#   `unsigned`, which does nothing else.

# `$t` and `$d` only mark where code and constants begin within a function.
/^[0-9a-f]+ <\$.*>:$/ {
    next
}

/^[0-9a-f]+ <.*>:$/ {
    at = name($0)
    next
}

# What the linker fills gaps with, two bytes d4, reads as this jump.
/bmi.*#-88$/ {
    next
}

/<.*>/ && $2 ~ /^(b|bl|b[a-z][a-z]|cbz|cbnz)(\.[nw])?$/ {
    to = name($0)
    if (to != at && to !~ /^\$/) {
        calls[at] = calls[at] "\n" $1 " " to
    }
}

function name(line) {
    sub(/^[^<]*</, "", line)
    sub(/>(:| +@ imm.*)?$/, "", line)
    sub(/\+0x[0-9a-f]+$/, "", line)
    return line
}

function is_panic(of) {
    return of ~ /core::panicking|(expect|unwrap|assert)_failed|(index|mismatch)_fail|slice_error_fail|panic_already/
}

function is_known(of) {
    return of ~ /raft_core::state::log::Log<.*>::append$|minicbor::decode::decoder::Decoder>::(read_array::<[0-9]+>|unsigned)$/
}

function is_memory(of) {
    return of ~ /GlobalAlloc|__rust_|__rustc|alloc::alloc::|raw_vec::(handle_error|capacity_overflow)|rc_inner_layout/
}

function look(from, each, i, n, target, address) {
    n = split(calls[from], each, "\n")
    for (i = 2; i <= n; i++) {
        address = target = each[i]
        sub(/:? .*/, "", address)
        sub(/^[^ ]* /, "", target)
        if (is_panic(target)) {
            print "0x" address " " from " -> " target
            panics++
        } else if (is_known(target)) {
            known[target]
        } else if (!is_memory(target) && !(target in seen)) {
            seen[target]
            look(target)
        }
    }
}

END {
    for (from in calls) {
        if (from ~ /^panics::(hear|turn)$/) {
            roots++
            look(from)
        }
    }
    for (from in seen) {
        found++
    }
    printf "%d functions behind %d roots can reach %d panics, besides:\n", found, roots, panics
    for (of in known) {
        print "  " of
    }
    exit panics > 0 || roots != 2
}
