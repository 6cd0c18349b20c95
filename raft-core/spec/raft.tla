---------------------------------- MODULE raft ----------------------------------
(*******************************************************************************)
(* Raft as `raft-core` does it. A page for each section of the paper, in the   *)
(* order of Figure 2: state, elections, replication, commit, then membership,  *)
(* log compaction, hand-over and reads.                                        *)
(*                                                                             *)
(* Where the code departs from the letter of the paper, this module says so:   *)
(*                                                                             *)
(*   - Writing takes time. What a server holds in memory and what its disk     *)
(*     holds are two variables, and a crash decides what becomes of the writes *)
(*     in between.                                                             *)
(*   - A candidate's request leaves before its own vote is on disk. So a vote  *)
(*     is given to a log, and a reply echoes the log that was judged.          *)
(*   - A reply waits until the term and the vote that it rests on are on disk. *)
(*                                                                             *)
(* Time is left out: any server may stand for election at any moment. Election *)
(* timeouts, ranks, connection hints and the stickiness of voters choose among *)
(* the steps here, and add none. Leases do depend on time; they have a module  *)
(* of their own, `lease`.                                                      *)
(*                                                                             *)
(* The network loses, repeats and reorders. Nothing is removed from it.        *)
(*******************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
    Server,          \* All servers that there may ever be.
    InitialVoters,   \* The voters of the first configuration.
    Targets,         \* The sets of voters that a leader may change to.
    Commands,        \* What clients propose.
    PreVote,         \* TRUE: a server asks before it stands (thesis 9.6).
    WritesMax,       \* The most writes of one server that are not yet on its disk.
    Nil

VARIABLES
    (* In memory, for each server. *)
    term,        \* currentTerm
    vote,        \* votedFor
    log,         \* The entries, from the first.
    base,        \* Entries up to here were compacted: they can be sent in a snapshot only.
    commit,      \* commitIndex
    role,        \* "follower", "precandidate", "candidate" or "leader"
    leader,      \* The leader of the current term, if the server has heard from it.
    granted,     \* The voters that granted this candidate its (pre-)vote.
    match,       \* matchIndex, of a leader: for each server, what it holds on disk.
    held,        \* Replies that wait for the disk.
    (* On disk, for each server. *)
    disk,        \* What a crash cannot take.
    writes,      \* Images that were handed to the disk, in order, and are not yet safe.
    (* On the network. *)
    requests,    \* Vote requests.
    replies,     \* Vote replies.
    said,        \* For each term, what its leader may have put into AppendEntries.
    acked,       \* For each term and follower, how much of the leader's log it acknowledged.
    timeoutNow,  \* TimeoutNow messages.
    (* What happened, for the invariants alone. *)
    elected,     \* Who led each term, and with which log it began.
    committed,   \* All entries that were ever committed, in order.
    decided,     \* For each of them, in which term.
    reads        \* Reads that a leader has accepted.

memory  == <<term, vote, log, base, commit, role, leader, granted, match, held>>
storage == <<disk, writes>>
network == <<requests, replies, said, acked, timeoutNow>>
history == <<elected, committed, decided, reads>>
vars    == <<memory, storage, network, history>>

Terms == DOMAIN said

(*******************************************************************************)
(* Logs and configurations.                                                    *)
(*******************************************************************************)

Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b

Prefix(l, n)  == SubSeq(l, 1, n)
TermAt(l, i)  == IF i = 0 THEN 0 ELSE l[i].term
LastLog(l)    == [term |-> TermAt(l, Len(l)), index |-> Len(l)]
AtLeast(a, b) == a.term > b.term \/ (a.term = b.term /\ a.index >= b.index)

\* How far two logs agree.
Agreement(a, b) ==
    LET n      == Min(Len(a), Len(b))
        differ == {i \in 1..n : a[i] # b[i]}
    IN  IF differ = {} THEN n ELSE (CHOOSE i \in differ : \A j \in differ : i <= j) - 1

Noop(t)           == [term |-> t, kind |-> "noop",    value |-> Nil]
Proposal(t, v)    == [term |-> t, kind |-> "command", value |-> v]
Configured(t, c)  == [term |-> t, kind |-> "config",  value |-> c]

\* A configuration is joint while it has outgoing voters. Learners take entries and do not vote.
Stable(voters, learners) ==
    [incoming |-> voters, outgoing |-> {}, learners |-> learners]
IsJoint(c)        == c.outgoing # {}
Voters(c)         == c.incoming \cup c.outgoing
Majority(s, all)  == 2 * Cardinality(s \cap all) > Cardinality(all)
Quorum(s, c)      == /\ Majority(s, c.incoming)
                     /\ IsJoint(c) => Majority(s, c.outgoing)

\* The configuration in force is the newest in the log, committed or not (§6).
ConfigIndex(l) ==
    LET all == {i \in 1..Len(l) : l[i].kind = "config"}
    IN  IF all = {} THEN 0 ELSE CHOOSE i \in all : \A j \in all : j <= i
ConfigAt(l, i) == IF i = 0 THEN Stable(InitialVoters, {}) ELSE l[i].value
Config(l)      == ConfigAt(l, ConfigIndex(l))

\* A server stands if it votes; or if it did before a change that may not be committed,
\* for it may be the only one that holds that change (thesis 4.2.2).
MayStand(s) ==
    LET i == ConfigIndex(log[s])
    IN  \/ s \in Voters(Config(log[s]))
        \/ i > commit[s] /\ s \in Voters(Config(Prefix(log[s], i - 1)))

(*******************************************************************************)
(* The disk. The core hands out an image of what it holds; images become safe  *)
(* in order. A crash keeps any number of those under way, and takes the rest.  *)
(*******************************************************************************)

Image(s)   == [term |-> term[s], vote |-> vote[s], log |-> log[s], base |-> base[s]]
Newest(s)  == IF writes[s] = <<>> THEN disk[s] ELSE writes[s][Len(writes[s])]

\* The term and the vote that a reply rests on are on disk.
HardStateIsDurable(s) == disk[s].term = term[s] /\ disk[s].vote = vote[s]

\* What no crash can take: the disk holds it, and no write under way takes it back.
DurableIndex(s) ==
    LET images == {disk[s].log} \cup {writes[s][i].log : i \in 1..Len(writes[s])}
        agreed == {Agreement(log[s], image) : image \in images}
    IN  CHOOSE i \in agreed : \A j \in agreed : i <= j

Write(s) ==
    /\ Image(s) # Newest(s)
    /\ Len(writes[s]) < WritesMax
    /\ writes' = [writes EXCEPT ![s] = Append(@, Image(s))]
    /\ UNCHANGED <<memory, disk, network, history>>

Sync(s) ==
    /\ writes[s] # <<>>
    /\ disk'   = [disk   EXCEPT ![s] = Head(writes[s])]
    /\ writes' = [writes EXCEPT ![s] = Tail(@)]
    /\ UNCHANGED <<memory, network, history>>

Crash(s) ==
    \E kept \in 0..Len(writes[s]) :
        LET image == IF kept = 0 THEN disk[s] ELSE writes[s][kept]
        IN  /\ disk'    = [disk    EXCEPT ![s] = image]
            /\ writes'  = [writes  EXCEPT ![s] = <<>>]
            /\ term'    = [term    EXCEPT ![s] = image.term]
            /\ vote'    = [vote    EXCEPT ![s] = image.vote]
            /\ log'     = [log     EXCEPT ![s] = image.log]
            /\ base'    = [base    EXCEPT ![s] = image.base]
            /\ commit'  = [commit  EXCEPT ![s] = image.base]
            /\ role'    = [role    EXCEPT ![s] = "follower"]
            /\ leader'  = [leader  EXCEPT ![s] = Nil]
            /\ granted' = [granted EXCEPT ![s] = {}]
            /\ match'   = [match   EXCEPT ![s] = [p \in Server |-> 0]]
            /\ held'    = [held    EXCEPT ![s] = {}]
            /\ UNCHANGED <<network, history>>

(*******************************************************************************)
(* Rules for all servers (Figure 2).                                           *)
(*******************************************************************************)

\* The next values of one server, when it turns follower in term `t`, whose leader is `l`.
Follow(s, t, l) ==
    /\ term'    = [term    EXCEPT ![s] = t]
    /\ vote'    = [vote    EXCEPT ![s] = IF t > term[s] THEN Nil ELSE @]
    /\ role'    = [role    EXCEPT ![s] = "follower"]
    /\ leader'  = [leader  EXCEPT ![s] = l]
    /\ granted' = [granted EXCEPT ![s] = {}]
    /\ match'   = [match   EXCEPT ![s] = [p \in Server |-> 0]]

\* Hears of a newer term, in a message of any kind. Every term begins with a request.
HearOfTerm(s, m) ==
    /\ m.term > term[s]
    /\ Follow(s, m.term, Nil)
    /\ held' = [held EXCEPT ![s] = {}]
    /\ UNCHANGED <<log, base, commit, storage, network, history>>

\* Gives up: a leader that no quorum answers (thesis 6.2), or whose disk does not, or that is
\* no member any more; a candidate in vain; a follower that was told that its leader is gone.
GiveUp(s) ==
    /\ role[s] # "follower" \/ leader[s] # Nil
    /\ Follow(s, term[s], Nil)
    /\ UNCHANGED <<log, base, commit, held, storage, network, history>>

\* The reply that waited for the disk leaves. Those of an earlier term were dropped with it.
Release(s) ==
    /\ held[s] # {}
    /\ HardStateIsDurable(s)
    /\ replies' = replies \cup held[s]
    /\ held'    = [held EXCEPT ![s] = {}]
    /\ UNCHANGED <<term, vote, log, base, commit, role, leader, granted, match, storage,
                   requests, said, acked, timeoutNow, history>>

(*******************************************************************************)
(* Leader election (§5.2, §5.4.1), with pre-vote (thesis 9.6).                 *)
(*******************************************************************************)

\* Heard from no leader for too long, or was told that the leader is gone: ask first.
AskFirst(s) ==
    /\ PreVote
    /\ role[s] # "leader" /\ MayStand(s)
    /\ role'    = [role    EXCEPT ![s] = "precandidate"]
    /\ leader'  = [leader  EXCEPT ![s] = Nil]
    /\ granted' = [granted EXCEPT ![s] = {s}]
    /\ UNCHANGED <<term, vote, log, base, commit, match, held, storage, network, history>>

\* A voter would vote for `s` in the next term. It changes nothing at the voter. A request that
\* was refused for the sake of a leader is kept, so the voter may answer later, too.
WouldVote(v, s) ==
    /\ role[s] = "precandidate" /\ role[v] # "leader"
    /\ v \in Voters(Config(log[s]))
    /\ term[s] >= term[v] /\ AtLeast(LastLog(log[s]), LastLog(log[v]))

GrantPreVote(v, s) ==
    /\ WouldVote(v, s) /\ v \notin granted[s]
    /\ granted' = [granted EXCEPT ![s] = @ \cup {v}]
    /\ UNCHANGED <<term, vote, log, base, commit, role, leader, match, held, storage,
                   network, history>>

\* Stands for election, unless this is the last term that there is. The request leaves beside
\* the write of the candidate's own vote.
BecomeCandidate(s) ==
    /\ term[s] + 1 \in Terms
    /\ term'     = [term    EXCEPT ![s] = @ + 1]
    /\ vote'     = [vote    EXCEPT ![s] = s]
    /\ role'     = [role    EXCEPT ![s] = "candidate"]
    /\ leader'   = [leader  EXCEPT ![s] = Nil]
    /\ granted'  = [granted EXCEPT ![s] = {s}]
    /\ match'    = [match   EXCEPT ![s] = [p \in Server |-> 0]]
    /\ held'     = [held    EXCEPT ![s] = {}]
    /\ requests' = requests \cup
                     {[term |-> term[s] + 1, from |-> s, last |-> LastLog(log[s])]}
    /\ UNCHANGED <<log, base, commit, storage, replies, said, acked, timeoutNow, history>>

StandAtOnce(s) == role[s] # "leader" /\ MayStand(s) /\ BecomeCandidate(s)

Stand(s) ==
    /\ PreVote => role[s] = "precandidate" /\ Quorum(granted[s], Config(log[s]))
    /\ StandAtOnce(s)

\* RequestVote, receiver implementation. A server that hears a leader may ignore the request,
\* which needs no step here.
OnRequestVote(v, m) ==
    /\ m.from # v /\ m.term >= term[v]
    /\ LET isNewer == m.term > term[v]
           free    == isNewer \/ vote[v] \in {Nil, m.from}
           grants  == /\ free
                      /\ isNewer \/ (leader[v] = Nil /\ role[v] # "leader")
                      /\ AtLeast(m.last, LastLog(log[v]))
           reply   == [term |-> m.term, from |-> v, to |-> m.from, last |-> m.last]
       IN  /\ isNewer \/ (grants /\ reply \notin replies \cup held[v])
           /\ term'    = [term    EXCEPT ![v] = m.term]
           /\ vote'    = [vote    EXCEPT ![v] = IF grants THEN m.from
                                                ELSE IF isNewer THEN Nil ELSE @]
           /\ role'    = [role    EXCEPT ![v] = "follower"]
           /\ leader'  = [leader  EXCEPT ![v] = Nil]
           /\ granted' = [granted EXCEPT ![v] = {}]
           /\ match'   = [match   EXCEPT ![v] = [p \in Server |-> 0]]
           /\ held'    = [held    EXCEPT ![v] = IF grants THEN {reply} ELSE {}]
    /\ UNCHANGED <<log, base, commit, storage, network, history>>

\* A vote counts for the log that it was given to, and for no other.
Counts(s, m) ==
    /\ role[s] = "candidate" /\ m.to = s /\ m.term = term[s]
    /\ m.last = LastLog(log[s])

OnVoteReply(s, m) ==
    /\ Counts(s, m) /\ m.from \notin granted[s]
    /\ granted' = [granted EXCEPT ![s] = @ \cup {m.from}]
    /\ UNCHANGED <<term, vote, log, base, commit, role, leader, match, held, storage,
                   network, history>>

\* A candidate leads once a quorum has voted for it and its own vote is on disk. It begins its
\* term with an entry of that term (§8).
BecomeLeader(s) ==
    /\ role[s] = "candidate"
    /\ Quorum(granted[s], Config(log[s]))
    /\ HardStateIsDurable(s)
    /\ LET grown == Append(log[s], Noop(term[s]))
       IN  /\ log'     = [log     EXCEPT ![s] = grown]
           /\ said'    = [said    EXCEPT ![term[s]] = [log |-> grown, commit |-> commit[s]]]
           /\ elected' = elected \cup {[term |-> term[s], leader |-> s, log |-> log[s]]}
    /\ role'    = [role    EXCEPT ![s] = "leader"]
    /\ leader'  = [leader  EXCEPT ![s] = s]
    /\ granted' = [granted EXCEPT ![s] = {}]
    /\ UNCHANGED <<term, vote, base, commit, match, held, storage, requests, replies, acked,
                   timeoutNow, committed, decided, reads>>

(*******************************************************************************)
(* Log replication (§5.3).                                                     *)
(*                                                                             *)
(* What a leader sends is built from its state when it is sent, and its log    *)
(* only grows within its term. So all that it may ever have said is a part of  *)
(* `said[term]`: any stretch of that log, with any commit index up to the one  *)
(* that is there. A follower may receive any of it, at any time, in any order. *)
(*******************************************************************************)

\* A leader appends, and may tell of the entry before its own disk has it (thesis 10.2.1).
AppendAsLeader(s, entry) ==
    LET grown == Append(log[s], entry)
    IN  /\ role[s] = "leader"
        /\ log'  = [log  EXCEPT ![s] = grown]
        /\ said' = [said EXCEPT ![term[s]].log = grown]
        /\ UNCHANGED <<term, vote, base, commit, role, leader, granted, match, held, storage,
                       requests, replies, acked, timeoutNow, history>>

Propose(s, v) ==
    /\ \A i \in 1..Len(log[s]) : log[s][i].value # v
    /\ AppendAsLeader(s, Proposal(term[s], v))

\* AppendEntries of term `t`, with the entries from `prev + 1` to `last` and the commit index
\* `known`, receiver implementation. Entries are removed only where they conflict.
OnAppendEntries(f, t, prev, last, known) ==
    /\ said[t] # Nil /\ t >= term[f]
    /\ known <= said[t].commit /\ known <= last
    /\ LET sent     == said[t].log
           begins   == Max(prev, base[f])     \* What was compacted is committed, and agrees.
           fits     == /\ prev <= last /\ last <= Len(sent)
                       /\ begins <= Len(log[f]) /\ begins <= last
                       /\ TermAt(log[f], begins) = TermAt(sent, begins)
           conflict == {i \in (begins + 1)..Min(last, Len(log[f])) :
                           log[f][i].term # sent[i].term}
           grown    == IF conflict = {} /\ last <= Len(log[f])
                       THEN log[f] ELSE Prefix(sent, last)
       IN  /\ fits
           /\ commit' = [commit EXCEPT ![f] = Max(@, known)]
           /\ log'  = [log  EXCEPT ![f] = grown]
           /\ held' = [held EXCEPT ![f] = IF t > term[f] THEN {} ELSE @]
           /\ \E l \in {e.leader : e \in {e \in elected : e.term = t}} :
                  l # f /\ Follow(f, t, l)
    /\ UNCHANGED <<base, storage, network, history>>

\* A follower acknowledges the part of its leader's log that is on its own disk.
MayAcknowledge(f) == role[f] = "follower" /\ leader[f] # Nil /\ HardStateIsDurable(f)
Acknowledges(f)   == Min(DurableIndex(f), Agreement(log[f], said[term[f]].log))

Acknowledge(f) ==
    /\ MayAcknowledge(f) /\ Acknowledges(f) > acked[term[f]][f]
    /\ acked' = [acked EXCEPT ![term[f]][f] = Acknowledges(f)]
    /\ UNCHANGED <<memory, storage, requests, replies, said, timeoutNow, history>>

OnAcknowledged(s, f) ==
    /\ role[s] = "leader" /\ acked[term[s]][f] > match[s][f]
    /\ match' = [match EXCEPT ![s][f] = acked[term[s]][f]]
    /\ UNCHANGED <<term, vote, log, base, commit, role, leader, granted, held, storage,
                   network, history>>

(*******************************************************************************)
(* Commit (§5.3, §5.4.2). A leader counts only entries of its own term, and    *)
(* its own copy like any other: once it is on disk.                            *)
(*******************************************************************************)

MayCommit(s) ==
    LET holds(p) == IF p = s THEN DurableIndex(s) ELSE match[s][p]
    IN  {n \in (commit[s] + 1)..Len(log[s]) :
            /\ log[s][n].term = term[s]
            /\ Quorum({p \in Server : holds(p) >= n}, Config(log[s]))}

AdvanceCommit(s) ==
    /\ role[s] = "leader"
    /\ \E n \in MayCommit(s) :
        /\ commit'    = [commit EXCEPT ![s] = n]
        /\ said'      = [said   EXCEPT ![term[s]].commit = n]
        /\ IF n <= Len(committed) THEN UNCHANGED <<committed, decided>>
           ELSE /\ committed' = Prefix(log[s], n)
                /\ decided'   = [i \in 1..n |->
                       IF i <= Len(decided) THEN decided[i] ELSE term[s]]
    /\ UNCHANGED <<term, vote, log, base, role, leader, granted, match, held, storage,
                   requests, replies, acked, timeoutNow, elected, reads>>

\* A leader that has committed an entry of its own term knows of every commit before it (§8).
HasCommittedInTerm(s) == TermAt(log[s], commit[s]) = term[s]

(*******************************************************************************)
(* Cluster membership changes (§6), as joint consensus: one at a time, and     *)
(* none before the leader has committed an entry of its own term.              *)
(*******************************************************************************)

MayChange(s) ==
    /\ role[s] = "leader" /\ HasCommittedInTerm(s)
    /\ ConfigIndex(log[s]) <= commit[s]

\* To other voters, through a configuration in which both majorities decide.
ChangeVoters(s, target) ==
    LET now == Config(log[s])
    IN  /\ MayChange(s) /\ ~IsJoint(now) /\ target # now.incoming
        /\ AppendAsLeader(s, Configured(term[s],
               [incoming |-> target, outgoing |-> now.incoming,
                learners |-> now.learners \ target]))

\* Whichever leader finds a joint configuration committed leaves it.
LeaveJoint(s) ==
    LET now == Config(log[s])
    IN  /\ MayChange(s) /\ IsJoint(now)
        /\ AppendAsLeader(s, Configured(term[s], Stable(now.incoming, now.learners)))

\* Learners come and go in one step, because no majority changes.
ChangeLearners(s, learners) ==
    LET now == Config(log[s])
    IN  /\ MayChange(s) /\ ~IsJoint(now)
        /\ learners # now.learners /\ learners \cap now.incoming = {}
        /\ AppendAsLeader(s, Configured(term[s], Stable(now.incoming, learners)))

\* A server to which a committed configuration gives no vote keeps on its disk that this is
\* committed. So it knows after a crash that it was removed, and asks nobody for votes.
RecallRemoval(s) ==
    LET i == ConfigIndex(log[s])
    IN  /\ i > commit[s] /\ s \notin Voters(Config(log[s]))
        /\ i <= Len(committed) /\ Prefix(log[s], i) = Prefix(committed, i)
        /\ commit' = [commit EXCEPT ![s] = i]
        /\ UNCHANGED <<term, vote, log, base, role, leader, granted, match, held, storage,
                       network, history>>

(*******************************************************************************)
(* Log compaction (§7). A snapshot stands for a committed part of the log that *)
(* is on disk. A follower whose log does not hold its last entry takes it in   *)
(* place of its log, by one write.                                             *)
(*******************************************************************************)

Compact(s) ==
    \E n \in (base[s] + 1)..Min(commit[s], DurableIndex(s)) :
        /\ base' = [base EXCEPT ![s] = n]
        /\ UNCHANGED <<term, vote, log, commit, role, leader, granted, match, held, storage,
                       network, history>>

\* InstallSnapshot of term `t`: the leader's log up to `last`, which it has committed.
OnInstallSnapshot(f, t, last) ==
    /\ said[t] # Nil /\ t >= term[f]
    /\ last <= said[t].commit /\ last > commit[f]
    /\ LET sent  == said[t].log
           holds == last <= Len(log[f]) /\ TermAt(log[f], last) = TermAt(sent, last)
       IN  /\ log'  = [log  EXCEPT ![f] = IF holds THEN @ ELSE Prefix(sent, last)]
           /\ base' = [base EXCEPT ![f] = IF holds THEN @ ELSE last]
    /\ commit' = [commit EXCEPT ![f] = last]
    /\ held'   = [held   EXCEPT ![f] = IF t > term[f] THEN {} ELSE @]
    /\ \E l \in {e.leader : e \in {e \in elected : e.term = t}} :
           l # f /\ Follow(f, t, l)
    /\ UNCHANGED <<storage, network, history>>

(*******************************************************************************)
(* Leadership transfer (thesis 3.10): the successor stands at once, without a  *)
(* pre-vote, if it holds what the leader held when it asked.                   *)
(*******************************************************************************)

SendTimeoutNow(s, p) ==
    /\ role[s] = "leader" /\ p # s /\ p \in Config(log[s]).incoming
    /\ timeoutNow' = timeoutNow \cup
                       {[term |-> term[s], to |-> p, last |-> LastLog(log[s])]}
    /\ UNCHANGED <<memory, storage, requests, replies, said, acked, history>>

OnTimeoutNow(p, m) ==
    /\ m.to = p /\ m.term = term[p]
    /\ role[p] = "follower" /\ leader[p] # Nil
    /\ AtLeast(LastLog(log[p]), m.last)
    /\ p \in Voters(Config(log[p]))
    /\ BecomeCandidate(p)

(*******************************************************************************)
(* Reads (thesis 6.4). A leader takes its commit index, and serves the read    *)
(* once a quorum has answered a round that left after the read came.           *)
(*******************************************************************************)

MayRead(s) == role[s] = "leader" /\ HasCommittedInTerm(s)
NewRead(s) == [leader |-> s, term |-> term[s], index |-> commit[s],
               needs |-> Len(committed), by |-> {s}, served |-> FALSE]

StartRead(s) ==
    /\ MayRead(s)
    /\ reads' = reads \cup {NewRead(s)}
    /\ UNCHANGED <<memory, storage, network, elected, committed, decided>>

Echoes(f, r) == term[f] = r.term /\ leader[f] = r.leader /\ HardStateIsDurable(f)

EchoRound(f, r) ==
    /\ ~r.served /\ f \notin r.by
    /\ Echoes(f, r)
    /\ reads' = (reads \ {r}) \cup {[r EXCEPT !.by = @ \cup {f}]}
    /\ UNCHANGED <<memory, storage, network, elected, committed, decided>>

IsConfirmed(r) ==
    /\ role[r.leader] = "leader" /\ term[r.leader] = r.term
    /\ Quorum(r.by, Config(log[r.leader]))

ServeRead(s, r) ==
    /\ ~r.served /\ r.leader = s /\ IsConfirmed(r)
    /\ reads' = (reads \ {r}) \cup {[r EXCEPT !.served = TRUE]}
    /\ UNCHANGED <<memory, storage, network, elected, committed, decided>>

(*******************************************************************************)
(* The whole.                                                                  *)
(*******************************************************************************)

Init ==
    LET nothing == [term |-> 0, vote |-> Nil, log |-> <<>>, base |-> 0]
    IN  /\ term    = [s \in Server |-> 0]
        /\ vote    = [s \in Server |-> Nil]
        /\ log     = [s \in Server |-> <<>>]
        /\ base    = [s \in Server |-> 0]
        /\ commit  = [s \in Server |-> 0]
        /\ role    = [s \in Server |-> "follower"]
        /\ leader  = [s \in Server |-> Nil]
        /\ granted = [s \in Server |-> {}]
        /\ match   = [s \in Server |-> [p \in Server |-> 0]]
        /\ held    = [s \in Server |-> {}]
        /\ disk    = [s \in Server |-> nothing]
        /\ writes  = [s \in Server |-> <<>>]
        /\ requests = {} /\ replies = {} /\ timeoutNow = {}
        /\ elected = {} /\ committed = <<>> /\ decided = <<>> /\ reads = {}

\* The steps of one server. Which of them a model takes, and how often, its own module says.
Elect(s) ==
    \/ AskFirst(s)
    \/ \E v \in Server \ {s} : GrantPreVote(v, s)
    \/ Stand(s)
    \/ \E m \in requests : OnRequestVote(s, m)
    \/ Release(s)
    \/ \E m \in replies : OnVoteReply(s, m)
    \/ BecomeLeader(s)

\* Of the stretches that end at `last`, any that the follower accepts has the same effect.
Replicate(s) ==
    \/ \E t \in Terms : said[t] # Nil /\
           \E last \in 0..Len(said[t].log), known \in 0..said[t].commit :
               OnAppendEntries(s, t, Min(last, Agreement(log[s], said[t].log)), last, known)
    \/ Acknowledge(s)
    \/ \E f \in Server \ {s} : OnAcknowledged(s, f)
    \/ AdvanceCommit(s)

Store(s) == Write(s) \/ Sync(s)

(*******************************************************************************)
(* What always holds. The first five are those of Figure 3.                    *)
(*******************************************************************************)

\* At most one leader can be elected in a given term.
ElectionSafety ==
    \A a, b \in elected : a.term = b.term => a.leader = b.leader

\* A leader never overwrites or deletes entries in its log; it only appends.
LeaderAppendOnly ==
    \A s \in Server : role[s] = "leader" => log[s] = said[term[s]].log

\* If two logs hold an entry of the same index and term, they are equal up to there.
LogMatching ==
    \A a, b \in Server : \A i \in 1..Min(Len(log[a]), Len(log[b])) :
        log[a][i].term = log[b][i].term => Prefix(log[a], i) = Prefix(log[b], i)

\* An entry that is committed in a term is in the log of every leader of a later one.
LeaderCompleteness ==
    \A e \in elected : \A i \in 1..Len(committed) :
        decided[i] < e.term => (i <= Len(e.log) /\ e.log[i] = committed[i])

\* No two servers take different entries as committed.
StateMachineSafety ==
    \A s \in Server :
        /\ commit[s] <= Len(log[s]) /\ commit[s] <= Len(committed)
        /\ Prefix(log[s], commit[s]) = Prefix(committed, commit[s])

\* A vote that was spoken is on disk, or the voter has gone on to a later term.
VotesAreDurable ==
    \A m \in replies :
        \/ disk[m.from].term > m.term
        \/ disk[m.from].term = m.term /\ disk[m.from].vote = m.to

\* What was acknowledged is on disk, for as long as the follower is in that term.
AcknowledgedIsDurable ==
    \A t \in Terms, f \in Server : acked[t][f] > 0 =>
        /\ disk[f].term >= t
        /\ disk[f].term = t =>
               Prefix(disk[f].log, acked[t][f]) = Prefix(said[t].log, acked[t][f])

\* Everything committed is on the disks of a quorum of a configuration that was in force. With a
\* leader's newest configuration its quorum decides of the entries before it, too.
CommittedIsDurable ==
    LET holders == {s \in Server : Agreement(disk[s].log, committed) = Len(committed)}
        suffice(l) == \E i \in 0..Len(l) : Quorum(holders, Config(Prefix(l, i)))
    IN  \/ suffice(committed)
        \/ \E t \in Terms : said[t] # Nil /\ suffice(said[t].log)
               /\ Agreement(said[t].log, committed) = Len(committed)

\* A read that was served includes all that was committed when it came.
ReadsAreFresh ==
    \A r \in reads : r.served => r.index >= r.needs

Safety ==
    /\ ElectionSafety /\ LeaderAppendOnly /\ LogMatching /\ LeaderCompleteness
    /\ StateMachineSafety /\ VotesAreDurable /\ AcknowledgedIsDurable
    /\ CommittedIsDurable /\ ReadsAreFresh
=================================================================================
