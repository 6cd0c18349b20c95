---------------------------------- MODULE trace ----------------------------------
(*******************************************************************************)
(* Holds what real servers did against the specification. The module `Worlds`, *)
(* which `trace.sh` has a program write, tells of some runs of the real core:  *)
(* after each event, what the server at which it happened has in memory and on *)
(* its disk. A run is accepted if steps of that server explain each change.    *)
(*                                                                             *)
(* What a record does not show (who granted a vote, what a follower has        *)
(* acknowledged, which images are on their way to the disk) is kept by the     *)
(* specification itself, and moves on as soon as it may: `Settle`.             *)
(*******************************************************************************)
EXTENDS raft, Worlds, TLC

CONSTANT StepsMax  \* So many steps explain one event, at the most.

VARIABLES
    world, at, steps,
    waiting     \* Reads that were asked and have not ended: the server, and the read's number.

Run    == Runs[world]
IsOver == at > Len(Run)
Told   == Run[at]

\* In a record, 0 stands for no server.
Id(n) == IF n = 0 THEN Nil ELSE n

IsUp(r) == r.kind = "runs"

\* A record tells: server, kind; term, vote, role, leader, log's last, base, commit;
\* what is applied; voters before and after, learners; on disk: term, vote, log's last, base.
DiskShows(image, r) ==
    /\ image.term = r.disk[1] /\ image.vote = Id(r.disk[2])
    /\ LastLog(image.log) = [term |-> r.disk[3], index |-> r.disk[4]]
    /\ image.base = r.disk[5]

MemoryShows(s, r) ==
    /\ term[s] = r.term /\ vote[s] = Id(r.vote)
    /\ role[s] = r.role /\ leader[s] = Id(r.leader)
    /\ LastLog(log[s]) = [term |-> r.last[1], index |-> r.last[2]]
    /\ base[s] = r.base /\ commit[s] = r.commit
    \* No restart finds a state machine ahead of the log.
    /\ r.applied <= Min(commit[s], DurableIndex(s))
    /\ r.incoming # {} =>
           Config(log[s]) = [incoming |-> r.incoming, outgoing |-> r.outgoing,
                             learners |-> r.learners]

\* What of the rest follows by itself, as early as it can.
Settle(s) ==
    LET may(f)   == role[f] = "follower" /\ leader[f] # Nil /\ HardStateIsDurable(f)
        holds(f) == Min(DurableIndex(f), Agreement(log[f], said[term[f]].log))
        known    == IF may(s) THEN [acked EXCEPT ![term[s]][s] = Max(@, holds(s))] ELSE acked
        leaves   == held[s] # {} /\ HardStateIsDurable(s)
        spoken   == IF leaves THEN replies \cup held[s] ELSE replies
        says(v, c) == \* Would vote for `c`, or did.
            \/ /\ role[c] = "precandidate" /\ v \in Voters(Config(log[c])) /\ role[v] # "leader"
               /\ term[c] >= term[v] /\ AtLeast(LastLog(log[c]), LastLog(log[v]))
            \/ /\ role[c] = "candidate"
               /\ [term |-> term[c], from |-> v, to |-> c, last |-> LastLog(log[c])] \in spoken
    IN  /\ acked'   = known
        /\ replies' = spoken
        /\ held'    = IF leaves THEN [held EXCEPT ![s] = {}] ELSE held
        /\ granted' = [c \in Server |-> granted[c] \cup {v \in Server : says(v, c)}]
        /\ match'   = [l \in Server |-> IF role[l] # "leader" THEN match[l] ELSE
                          [f \in Server |-> Max(match[l][f], known[term[l]][f])]]
        /\ writes'  = IF Image(s) = Newest(s) THEN writes
                      ELSE [writes EXCEPT ![s] = Append(@, Image(s))]
        /\ UNCHANGED <<term, vote, log, base, commit, role, leader, disk, requests, said,
                       timeoutNow, elected, committed, decided>>

\* A record does not show when a leader takes up a read, its own or a follower's, and who echoes
\* the round. So while a read waits, each leader that may answer it takes it up at each commit
\* index that it has, and each follower echoes at once. The end tells which of them it was.
Rounds(asked) ==
    LET begun == {r \in reads : r.read \in asked}
        keys  == {<<r.read, r.leader, r.term, r.index>> : r \in begun}
        new   == {NewRead(l) @@ [read |-> read] : l \in {l \in Server : MayRead(l)}, read \in asked}
        taken == begun \cup {r \in new : <<r.read, r.leader, r.term, r.index>> \notin keys}
        heard == {[r EXCEPT !.by = @ \cup {f \in Server : Echoes(f, r)}] : r \in taken}
    IN  {[r EXCEPT !.served = @ \/ IsConfirmed(r)] : r \in heard}

\* What a record tells of a read. Its index is that of a round which began when the read waited,
\* and which a quorum has echoed.
ReadIs(r, read) ==
    /\ IF r.kind = "asked" THEN waiting' = waiting \cup {read}
       ELSE read \in waiting /\ waiting' = waiting \ {read}
    /\ r.kind = "answered" =>
           \E round \in reads : round.read = read /\ round.served /\ round.index = r.index
    /\ reads' = Rounds(waiting')
    /\ UNCHANGED <<memory, storage, network, elected, committed, decided>>

\* The steps that may explain what the record tells of `s`.
Explain(s, r) ==
    IF ~DiskShows(disk[s], r) /\ writes[s] # <<>> /\ IsUp(r) THEN Sync(s)
    ELSE IF ~IsUp(r) THEN Crash(s) /\ DiskShows(disk'[s], r)
    ELSE
    \/ /\ role[s] # "leader" /\ r.term >= term[s]
       /\ r.role # "follower" \/ (r.term > term[s] /\ r.vote = s)
       /\ \/ role[s] # "precandidate" /\ AskFirst(s)
          \/ (IF AsksFirst[world] THEN Stand(s) ELSE StandAtOnce(s)) /\ term'[s] <= r.term
          \/ /\ term[s] < r.term /\ r.role \in {"candidate", "leader"}
             /\ OnTimeoutNow(s, [term |-> term[s], to |-> s, last |-> [term |-> 0, index |-> 0]])
    \/ \E m \in requests :
          /\ m.term = r.term /\ Id(r.vote) = m.from
          /\ OnRequestVote(s, m) /\ vote'[s] = m.from
    \/ \E t \in {m.term : m \in requests} :
          /\ t = r.term \/ (t + 1 = r.term /\ r.role \in {"candidate", "leader"})
          /\ HearOfTerm(s, [term |-> t])
    \/ r.role = "leader" /\ BecomeLeader(s)
    \/ r.role = "follower" /\ r.leader = 0 /\ GiveUp(s)
    \/ r.role # "leader" /\ \E t \in {term[s], r.term} \cap Terms : said[t] # Nil /\
           LET agreed == Agreement(log[s], said[t].log)
           IN  \E last \in {r.last[2], Min(r.last[2], Len(log[s])), r.commit} :
                  /\ last <= Len(said[t].log)
                  /\ \E known \in {0, r.commit} :
                         OnAppendEntries(s, t, Min(last, agreed), last, known)
    \/ /\ role[s] = "leader" /\ Len(log[s]) < r.last[2]
       /\ \/ AppendAsLeader(s, Proposal(term[s], Nil))
          \/ LeaveJoint(s)
          \/ r.outgoing # {} /\ ChangeVoters(s, r.incoming)
          \/ r.outgoing = {} /\ ChangeLearners(s, r.learners)
    \/ commit[s] < r.commit /\ AdvanceCommit(s) /\ commit'[s] = r.commit
    \/ commit[s] < r.commit /\ RecallRemoval(s) /\ commit'[s] = r.commit
    \/ base[s] < r.base /\ Compact(s) /\ base'[s] = r.base
    \/ /\ r.leader # 0 /\ said[r.term] # Nil
       /\ commit[s] < r.base /\ OnInstallSnapshot(s, r.term, r.base)

\* The terms that there are in a run: no more need to be kept.
LastTerm(run) ==
    LET those(kinds) == {i \in 1..Len(run) : run[i].kind \in kinds}
        terms == {run[i].disk[1] : i \in those({"runs", "stopped"})}
                 \cup {run[i].term : i \in those({"runs"})}
    IN  CHOOSE t \in terms : \A other \in terms : other <= t

TraceInit ==
    /\ Init
    /\ world \in 1..Len(Runs) /\ at = 1 /\ steps = 0 /\ waiting = {}
    /\ said  = [t \in 1..LastTerm(Runs[world]) |-> Nil]
    /\ acked = [t \in 1..LastTerm(Runs[world]) |-> [s \in Server |-> 0]]

TraceNext ==
    /\ ~IsOver
    /\ IF Told.kind \in {"asked", "answered", "lost"}
       THEN ReadIs(Told, <<Told.server, Told.read>>) /\ at' = at + 1 /\ steps' = 0
       ELSE
       \/ /\ Explain(Told.server, Told)
          /\ steps' = (IF disk' = disk THEN steps + 1 ELSE steps) /\ at' = at
          /\ steps' <= StepsMax
          /\ UNCHANGED waiting
       \/ /\ DiskShows(disk[Told.server], Told)
          /\ IsUp(Told) => MemoryShows(Told.server, Told)
          /\ Settle(Told.server)
          /\ waiting' = (IF IsUp(Told) THEN waiting
                         ELSE {read \in waiting : read[1] # Told.server})
          /\ reads' = Rounds(waiting')
          /\ at' = at + 1 /\ steps' = 0
    /\ UNCHANGED world

\* Prints how far each run is explained, each time that it is further; `trace.sh` reads it.
Reached ==
    at > TLCGet(world) => TLCSet(world, at) /\ PrintT(<<"run", world, at - 1, Len(Run)>>)
ASSUME \A w \in 1..Len(Runs) : TLCSet(w, 0)
=================================================================================
