---------------------------------- MODULE lease ----------------------------------
(*******************************************************************************)
(* Leases (thesis 6.4.1): reads without a round, on the word of a quorum.      *)
(*                                                                             *)
(* One leader, of an earlier term, and the election of its successor. Each     *)
(* reply to a round says for how long its sender elects nobody else; the       *)
(* leader holds a lease for as long as a quorum is bound. A promise is on disk *)
(* before it is spoken, so that a voter that restarts, even with leases turned *)
(* off, is bound for as long again.                                            *)
(*                                                                             *)
(* Clocks drift: while true time goes on by one, a clock goes on by any number *)
(* from 1 to `Drift`. So a promise of p on the voter's clock is sure to last   *)
(* p \div Drift on the leader's.                                               *)
(*******************************************************************************)
EXTENDS Naturals, FiniteSets, TLC

CONSTANTS
    Server, Leader,
    RoundsMax,    \* So many rounds leave.
    Promise,      \* How long a server with leases promises to be bound, by its own clock.
    Drift,        \* How many times faster one clock can be than another.
    Horizon,      \* No clock goes beyond.
    Goals         \* What the model must come to: see `Reaches`.

VARIABLES
    clock,        \* For each server.
    leases,       \* Whether a server's configuration has leases: it may change with a restart.
    stored,       \* The longest promise that is on a server's disk.
    bound,        \* Until when a server elects nobody, by its own clock.
    rounds,       \* When each round of the leader left, by the leader's clock.
    replies,      \* Who has answered which round, with which promise.
    leads,        \* The leader knows of no newer term.
    handedOver,   \* The leader has sent TimeoutNow.
    votes,        \* The servers that have voted for the successor.
    stale         \* A read was served after the successor could commit.

vars == <<clock, leases, stored, bound, rounds, replies, leads, handedOver, votes, stale>>

Majority(s) == 2 * Cardinality(s) > Cardinality(Server)
Elected     == Majority(votes)
Max(a, b)   == IF a > b THEN a ELSE b

Init ==
    /\ clock  = [s \in Server |-> 0]
    /\ leases \in [Server -> BOOLEAN]
    /\ stored = [s \in Server |-> 0] /\ bound = [s \in Server |-> 0]
    /\ rounds = {} /\ replies = {} /\ votes = {}
    /\ leads = TRUE /\ handedOver = FALSE /\ stale = FALSE

Tick ==
    /\ clock' \in [Server -> 0..Horizon]
    /\ \A s \in Server : clock'[s] - clock[s] \in 1..Drift
    /\ UNCHANGED <<leases, stored, bound, rounds, replies, leads, handedOver, votes, stale>>

SendRound ==
    /\ leads /\ Cardinality(rounds) < RoundsMax
    /\ rounds' = rounds \cup {clock[Leader]}
    /\ UNCHANGED <<clock, leases, stored, bound, replies, leads, handedOver, votes, stale>>

\* A follower that has not gone on to the next term hears a round, at any time after it left.
Answer(s, left) ==
    LET promise == IF leases[s] THEN Promise ELSE 0
    IN  /\ s # Leader /\ s \notin votes
        /\ stored'  = [stored EXCEPT ![s] = Max(@, promise)]
        /\ bound'   = [bound EXCEPT ![s] = Max(@, clock[s] + promise)]
        /\ replies' = replies \cup {[from |-> s, left |-> left, promise |-> promise]}
        /\ UNCHANGED <<clock, leases, rounds, leads, handedOver, votes, stale>>

\* A voter restarts, and may come back with another configuration.
Restart(s, with) ==
    /\ s # Leader
    /\ leases' = [leases EXCEPT ![s] = with]
    /\ bound'  = [bound EXCEPT ![s] = clock[s] + stored[s]]
    /\ UNCHANGED <<clock, stored, rounds, replies, leads, handedOver, votes, stale>>

HandOver ==
    /\ leads
    /\ handedOver' = TRUE
    /\ UNCHANGED <<clock, leases, stored, bound, rounds, replies, leads, votes, stale>>

\* Votes for the successor, or stands itself. Nobody is bound if the leader asked for it.
Vote(s) ==
    /\ s \notin votes
    /\ handedOver \/ clock[s] >= bound[s]
    /\ votes' = votes \cup {s}
    /\ leads' = (leads /\ s # Leader)
    /\ UNCHANGED <<clock, leases, stored, bound, rounds, replies, handedOver, stale>>

\* A quorum, the leader among it, is bound beyond this moment of the leader's clock.
HoldsLease ==
    LET binds(s) == \E r \in replies :
            r.from = s /\ clock[Leader] < r.left + (r.promise \div Drift)
    IN  ~handedOver /\ Majority({Leader} \cup {s \in Server : binds(s)})

Read ==
    /\ leads /\ HoldsLease
    /\ stale' = Elected
    /\ UNCHANGED <<clock, leases, stored, bound, rounds, replies, leads, handedOver, votes>>

Next ==
    \/ Tick \/ SendRound \/ HandOver \/ Read
    \/ \E s \in Server : Vote(s) \/ \E left \in rounds : Answer(s, left)
    \/ \E s \in Server, with \in BOOLEAN : Restart(s, with)

(*******************************************************************************)
(* What the model need not tell apart: once the leader has no lease any more,  *)
(* and gets none, no read can be stale; a promise or a reply that has lapsed,  *)
(* and what a server that has voted is bound to, have no effect.               *)
(*******************************************************************************)

Lasts(r)  == clock[Leader] < r.left + (r.promise \div Drift)
Seen      == IF stale THEN <<"stale">>
             ELSE IF handedOver \/ ~leads THEN <<"over">>
             ELSE <<clock, votes, rounds, {r \in replies : Lasts(r)},
                    [s \in Server |-> IF s = Leader \/ s \in votes THEN <<>>
                        ELSE <<leases[s], stored[s], IF bound[s] > clock[s] THEN bound[s] ELSE 0>>]>>

\* What the model must come to: TLC prints each the first time (see `models`).
Reach(number, name, is) ==
    (name \in Goals /\ TLCGet(number) = 0 /\ is) => TLCSet(number, 1) /\ PrintT(<<"reached", name>>)
Reaches ==
    /\ Reach(1, "a read by lease", leads /\ HoldsLease)
    /\ Reach(2, "a successor while the old leader leads", leads /\ Elected)
    /\ Reach(3, "a restart that turns leases off while a promise lasts", \E s \in Server :
             s # Leader /\ ~leases[s] /\ stored[s] > 0 /\ clock[s] < bound[s])
    /\ Reach(4, "a lease beside a follower that promises nothing", leads /\ HoldsLease /\
             \E s \in Server : s # Leader /\ ~leases[s] /\ stored[s] = 0)
ASSUME \A number \in 1..4 : TLCSet(number, 0)

\* Lease reads are never stale within the drift.
ReadsAreFresh == ~stale
=================================================================================
