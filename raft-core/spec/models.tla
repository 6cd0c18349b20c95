--------------------------------- MODULE models ---------------------------------
(*******************************************************************************)
(* What the models bound: terms, crashes, and which of the steps that change   *)
(* members, compact, hand over and read they take. A .cfg file for each model. *)
(*******************************************************************************)
EXTENDS raft, TLC

CONSTANTS
    TermMax,       \* Nobody stands in a term above this one.
    StandsMax,     \* So many candidacies, of all servers together.
    CrashesMax,    \* So many crashes, on all servers together.
    ReadsMax,      \* So many reads.
    Steps,         \* Among "change", "learners", "compact", "transfer", "give up".
    Goals          \* What the model must come to: see `Reaches`.

VARIABLES stands, crashes

ModelInit ==
    /\ Init
    /\ said  = [t \in 1..TermMax |-> Nil]
    /\ acked = [t \in 1..TermMax |-> [s \in Server |-> 0]]
    /\ stands = 0 /\ crashes = 0

(*******************************************************************************)
(* Some steps only make more possible later: one more image that survives, one *)
(* more reply to receive, one more answer counted. No step and no invariant    *)
(* needs one of them not to have happened, and a message that was sent need    *)
(* not be received. So to take them at once, and all together, hides nothing.  *)
(* `Settle` does so for `Write`, `Release`, `Acknowledge`, `OnAcknowledged`,   *)
(* `OnVoteReply` and `GrantPreVote`; and for `Sync` once no crash can follow,  *)
(* because a disk that is late merely delays if nothing is ever lost.          *)
(*                                                                             *)
(* `Settle` also drops from the network what nobody can use any more, which is *)
(* no more than the loss of a message.                                         *)
(*******************************************************************************)

NoMoreCrashes == crashes = CrashesMax

\* Neither now nor after a crash can the candidate count a reply in this term.
IsInVain(candidate, t) ==
    /\ disk[candidate].term >= t
    /\ term[candidate] > t \/ role[candidate] # "candidate"

\* No other server would even learn a term from this request.
IsOld(m) ==
    \A v \in Server \ {m.from} :
        \/ disk[v].term > m.term
        \/ disk[v].term = m.term /\ disk[v].vote \notin {Nil, m.from}
        \/ disk[v].term = m.term /\ disk[v].vote = m.from /\ IsInVain(m.from, m.term)

LeadsNoMore(t) == \A s \in Server : ~(role[s] = "leader" /\ term[s] = t)

Settle ==
    /\ UNCHANGED <<term, vote, log, base, commit, role, leader, timeoutNow, history>>
    /\ IF NoMoreCrashes
       THEN /\ disk'   = [s \in Server |-> Image(s)]
            /\ writes' = [s \in Server |-> <<>>]
       ELSE /\ disk'   = disk
            /\ writes' = [s \in Server |->
                  IF Image(s) # Newest(s) /\ Len(writes[s]) < WritesMax
                  THEN Append(writes[s], Image(s)) ELSE writes[s]]
    /\ said'  = [t \in Terms |-> IF \A s \in Server : disk[s].term > t THEN Nil ELSE said[t]]
    /\ acked' = [t \in Terms |-> [f \in Server |->
          IF said[t] = Nil \/ LeadsNoMore(t) THEN 0
          ELSE IF t = term[f] /\ MayAcknowledge(f)'
          THEN Max(acked[t][f], Acknowledges(f)') ELSE acked[t][f]]]
    /\ match' = [l \in Server |->
          IF role[l] # "leader" THEN match[l]
          ELSE [f \in Server |-> Max(match[l][f], acked'[term[l]][f])]]
    /\ LET spoken == replies \cup UNION {held[s] : s \in {s \in Server : HardStateIsDurable(s)'}}
       IN  /\ replies' = {m \in spoken : ~IsInVain(m.to, m.term)}
           /\ held'    = [s \in Server |-> IF HardStateIsDurable(s)' THEN {} ELSE held[s]]
           /\ granted' = [c \in Server |->
                 granted[c] \cup {m.from : m \in {m \in spoken : Counts(c, m)}}
                            \cup {v \in Server \ {c} : WouldVote(v, c)}]
    /\ requests' = {m \in requests : ~IsOld(m)}

IsSettled ==
    /\ \A s \in Server :
        /\ IF NoMoreCrashes THEN disk[s] = Image(s)
           ELSE Image(s) = Newest(s) \/ Len(writes[s]) >= WritesMax
        /\ held[s] = {} \/ ~HardStateIsDurable(s)
        /\ MayAcknowledge(s) =>
              acked[term[s]][s] >= Acknowledges(s) \/ LeadsNoMore(term[s])
        /\ role[s] = "leader" => \A f \in Server : match[s][f] >= acked[term[s]][f]
    /\ \A m \in replies : ~IsInVain(m.to, m.term) /\ (Counts(m.to, m) => m.from \in granted[m.to])
    /\ \A c \in Server : role[c] = "precandidate" =>
          \A v \in Server \ {c} : WouldVote(v, c) => v \in granted[c]
    /\ \A m \in requests : ~IsOld(m)
    /\ \A t \in Terms : said[t] # Nil =>
        /\ \E s \in Server : disk[s].term <= t
        /\ LeadsNoMore(t) => \A f \in Server : acked[t][f] = 0

\* A commit that is known at once demands more of every later leader, and takes nothing away
\* (but for a server that may stand because it knows of none).
CommitsFirst == {s \in Server : role[s] = "leader" /\ "change" \notin Steps /\ MayCommit(s) # {}}

\* Nothing but the right to stand after a change rests on a commit index that is too low.
TellsCommit == "change" \notin Steps

\* No more servers ask at a time than may stand.
MayAsk == stands + Cardinality({s \in Server : role[s] = "precandidate"}) < StandsMax

\* A command is proposed once.
IsNew(v) ==
    LET holds(l) == \E i \in 1..Len(l) : l[i].value = v
    IN  \A s \in Server : ~holds(log[s]) /\ ~holds(disk[s].log)

Act(s) ==
    \/ role[s] # "precandidate" /\ MayAsk /\ AskFirst(s)
    \/ \E m \in requests :
          /\ m.term > term[s] \/ vote[s] = Nil \/ ~IsInVain(m.from, m.term)
          /\ OnRequestVote(s, m)
    \/ BecomeLeader(s)
    \/ \E t \in Terms : said[t] # Nil /\
           LET agreed == Agreement(log[s], said[t].log)
           IN  \E last \in agreed..Len(said[t].log) :
                   LET upTo == Min(said[t].commit, last)
                   IN  \E known \in (IF TellsCommit THEN upTo ELSE 0)..upTo :
                           OnAppendEntries(s, t, agreed, last, known)
    \/ AdvanceCommit(s)
    \/ Sync(s)
    \/ \E v \in Commands : IsNew(v) /\ Propose(s, v)
    \/ /\ "change" \in Steps
       /\ (\E target \in Targets : ChangeVoters(s, target)) \/ LeaveJoint(s)
    \/ /\ "learners" \in Steps /\ ConfigIndex(log[s]) = 0   \* Learners come first, and once.
       /\ \E learners \in SUBSET Server : ChangeLearners(s, learners)
    \/ /\ "compact" \in Steps
       /\ \/ Compact(s)
          \/ \E t \in Terms : said[t] # Nil /\
                 \E last \in 1..said[t].commit : OnInstallSnapshot(s, t, last)
    \/ /\ "transfer" \in Steps
       /\ \E p \in Server : SendTimeoutNow(s, p)
    \/ "give up" \in Steps /\ (GiveUp(s) \/ \E m \in requests : HearOfTerm(s, m))
    \/ Cardinality(reads) < ReadsMax /\ StartRead(s)
    \/ \E r \in reads : EchoRound(s, r) \/ ServeRead(s, r)

Stands(s) == Stand(s) \/ \E m \in timeoutNow : OnTimeoutNow(s, m)

ModelNext ==
    IF ~IsSettled THEN Settle /\ UNCHANGED <<stands, crashes>>
    ELSE IF CommitsFirst # {}
    THEN (\E s \in CommitsFirst : AdvanceCommit(s)) /\ UNCHANGED <<stands, crashes>>
    ELSE \E s \in Server :
        \/ Act(s) /\ UNCHANGED <<stands, crashes>>
        \/ stands < StandsMax /\ Stands(s) /\ stands' = stands + 1 /\ UNCHANGED crashes
        \/ crashes < CrashesMax /\ Crash(s) /\ crashes' = crashes + 1 /\ UNCHANGED stands

Symmetric == Permutations(Server)

(*******************************************************************************)
(* Liveness. Ranks and random timeouts see to it that at some time a server    *)
(* stands alone, with a log that no voter's exceeds. If nobody crashes from    *)
(* then on, and steps are taken as long as there are any, then this server     *)
(* leads, and all servers hold and commit its log; unless the last leader's    *)
(* entries reached a voter after all, before the request did.                  *)
(*******************************************************************************)

all == <<vars, stands, crashes>>
FairSpec == ModelInit /\ [][ModelNext]_all /\ WF_all(ModelNext)

Leads(s) == role[s] = "leader"
IsOutgrown(s) == \E v \in Server : ~AtLeast(LastLog(log[s]), LastLog(log[v]))
StandsAlone(s) ==
    /\ stands = StandsMax /\ NoMoreCrashes /\ role[s] = "candidate"
    /\ \A v \in Server \ {s} : term[v] < term[s]
    /\ ~IsOutgrown(s)
LeadsAll(s) ==
    Leads(s) /\ \A v \in Server : log[v] = log[s] /\ commit[v] = Len(log[s])

ElectsAndCommits == \A s \in Server : StandsAlone(s) ~> (LeadsAll(s) \/ IsOutgrown(s))

(*******************************************************************************)
(* A model in which nothing happens keeps every invariant. So each names what  *)
(* it must come to. TLC prints that the first time, and `check.sh` fails if    *)
(* one is missing.                                                             *)
(*******************************************************************************)

Reach(number, name, is) ==
    (name \in Goals /\ TLCGet(number) = 0 /\ is) => TLCSet(number, 1) /\ PrintT(<<"reached", name>>)

IsCommitted(kind) == \E i \in 1..Len(committed) : committed[i].kind = kind

Reaches ==
    /\ Reach(1, "a leader of the second term", \E e \in elected : e.term = 2)
    /\ Reach(2, "a leader of the second term after a crash",
             crashes > 0 /\ \E e \in elected : e.term = 2)
    /\ Reach(3, "a leader of the last term", \E e \in elected : e.term = TermMax)
    /\ Reach(4, "a command is committed", IsCommitted("command"))
    /\ Reach(5, "a command is committed by a leader of a later term",
             \E i \in 1..Len(committed) : committed[i].kind = "command" /\
                 \A e \in elected : e.term = committed[i].term => LeadsNoMore(e.term))
    /\ Reach(6, "two leaders at a time", \E a, b \in Server : a # b /\ Leads(a) /\ Leads(b))
    /\ Reach(7, "two logs conflict", \E a, b \in Server :
             Agreement(log[a], log[b]) < Min(Len(log[a]), Len(log[b])))
    /\ Reach(8, "votes are split", \E a, b, c \in Server :
             /\ Cardinality({a, b, c}) = 3 /\ term[a] = term[b] /\ term[b] = term[c]
             /\ \A s \in {a, b, c} : role[s] = "candidate")
    /\ Reach(9, "entries of an earlier term are on a quorum, and not committed",
             \E l \in Server : \E i \in (Len(committed) + 1)..Len(log[l]) :
                 /\ Leads(l) /\ log[l][i].term < term[l]
                 /\ Quorum({s \in Server : s = l \/ match[l][s] >= i}, Config(log[l])))
    /\ Reach(10, "a snapshot is installed",
             \E s \in Server : base[s] > Len(disk[s].log))
    /\ Reach(11, "a snapshot takes the place of entries that conflict",
             \E s \in Server : base[s] > Agreement(log[s], disk[s].log) /\ disk[s].log # <<>>)
    /\ Reach(12, "a joint configuration is left", \E i \in 2..Len(committed) :
             /\ committed[i].kind = "config" /\ ~IsJoint(committed[i].value)
             /\ IsJoint(Config(Prefix(committed, i - 1))))
    /\ Reach(13, "a leader of the new voters", \E e \in elected : \E i \in 1..Len(e.log) :
             e.log[i].kind = "config" /\ e.leader \notin InitialVoters)
    /\ Reach(14, "a joint configuration is taken back", \E a, b \in Server :
             LET agreed == Agreement(log[a], log[b])
             IN  /\ agreed < Min(Len(log[a]), Len(log[b])) /\ IsJoint(Config(log[a]))
                 /\ log[b][agreed + 1].term > log[a][agreed + 1].term)
    /\ Reach(15, "a learner is added",
             \E i \in 1..Len(committed) : committed[i].kind = "config" /\
                 committed[i].value.learners # {})
    /\ Reach(16, "a read is served", \E r \in reads : r.served)
    /\ Reach(17, "a read waits at a leader that is not the last", \E r \in reads :
             /\ ~r.served /\ Leads(r.leader) /\ term[r.leader] = r.term
             /\ \E e \in elected : e.term > r.term)
    /\ Reach(20, "a learner is promoted", \E i \in 2..Len(committed) :
             /\ committed[i].kind = "config"
             /\ committed[i].value.incoming \cap Config(Prefix(committed, i - 1)).learners # {})
    /\ Reach(19, "a server stands alone", \E s \in Server : StandsAlone(s))
    /\ Reach(18, "a leader asks its successor", \E m \in timeoutNow :
             \E e \in elected : e.leader = m.to /\ e.term = m.term + 1)

ASSUME \A number \in 1..20 : TLCSet(number, 0)
=================================================================================
