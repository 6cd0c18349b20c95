--------------------------------- MODULE models ---------------------------------
(*******************************************************************************)
(* What the models bound: terms, crashes, and which of the steps that change   *)
(* members, compact, hand over and read they take. A .cfg file for each model. *)
(*******************************************************************************)
EXTENDS raft, TLC

CONSTANTS
    TermMax,       \* Nobody stands in a term above this one.
    CrashesMax,    \* So many crashes, on all servers together.
    ReadsMax,      \* So many reads.
    Steps          \* Among "change", "compact", "transfer", "give up".

VARIABLE crashes

ModelInit ==
    /\ Init
    /\ said  = [t \in 1..TermMax |-> Nil]
    /\ acked = [t \in 1..TermMax |-> [s \in Server |-> 0]]
    /\ crashes = 0

\* What only makes more possible later: an image more to survive, a reply more to receive, an
\* answer more counted. Taking these steps at once hides nothing, since no step needs one of
\* them not to have happened, and a message that was sent need not be received. So the models
\* take them first, and have far fewer states. (The code writes first, too.)
Urgent(s) ==
    \/ Write(s) \/ Release(s) \/ Acknowledge(s)
    \/ \E f \in Server \ {s} : OnAcknowledged(s, f)
    \/ \E m \in replies : OnVoteReply(s, m)

Act(s) ==
    \/ Elect(s) \/ Replicate(s) \/ Store(s)
    \/ \E v \in Commands : Propose(s, v)
    \/ /\ "change" \in Steps
       /\ \/ \E target \in Targets : ChangeVoters(s, target)
          \/ LeaveJoint(s)
          \/ \E p \in Server : ChangeLearners(s, {p})
    \/ /\ "compact" \in Steps
       /\ \/ Compact(s)
          \/ \E t \in Terms : said[t] # Nil /\
                 \E last \in 1..said[t].commit : OnInstallSnapshot(s, t, last)
    \/ /\ "transfer" \in Steps
       /\ (\E p \in Server : SendTimeoutNow(s, p)) \/ (\E m \in timeoutNow : OnTimeoutNow(s, m))
    \/ "give up" \in Steps /\ (GiveUp(s) \/ \E m \in requests : HearOfTerm(s, m))
    \/ Cardinality(reads) < ReadsMax /\ StartRead(s)
    \/ \E r \in reads : EchoRound(s, r) \/ ServeRead(s, r)

ModelNext ==
    IF \E s \in Server : ENABLED Urgent(s)
    THEN (\E s \in Server : Urgent(s)) /\ UNCHANGED crashes
    ELSE \/ (\E s \in Server : Act(s)) /\ UNCHANGED crashes
         \/ crashes < CrashesMax /\ (\E s \in Server : Crash(s)) /\ crashes' = crashes + 1

Symmetric == Permutations(Server)
=================================================================================
