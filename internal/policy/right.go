package policy

import "github.com/countersign-dev/countersign/internal/assurance"

// right is who may always do something: no set of policies forbids it, asks more for
// it, or lacks it.
type right struct {
	kind string
	own  bool // what is theirs only
	link bool // whoever presents the live link that was sent for it; else whoever has signed in
}

// rights are saying no, stopping, and ending what is one's own. Decide answers them
// before any policy is asked: a set of one's own could otherwise leave people no way to
// refuse what somebody else began in their name. What weakens an account (a way to sign
// in is removed, say) is none of them: a thief would have the right too.
var rights = map[Action][]right{
	SessionEnd:     {{kind: KindPerson, own: true}},
	GrantEnd:       {{kind: KindPerson, own: true}},
	DeviceDeny:     {{kind: KindPerson}},
	CIBADeny:       {{kind: KindPerson}},
	RecoveryCancel: {{kind: KindPerson, own: true}, {kind: KindAnonymous, link: true}},
	LeakReport:     {{kind: KindPerson}},
}

// RightReason begins the reason of what is allowed by right. No policy can have it as
// its id.
const RightReason = "right:"

// againstRight reports whether a statement is about a state in which an action is the right
// of somebody of a kind, whatever policies say.
func (n *Never) againstRight(a Action, kind string) (found bool) {
	dims := (&memo{}).dimensions(n.Ages, nil, nil, n.Groups[:min(len(n.Groups), 10)])
	for _, r := range rights[a] {
		in := Input{Principal: Entity{Kind: kind, ID: "usr_somebody"}, Action: a, Context: Context{Now: proofTime, Risk: UnknownRisk, Presented: r.link}}
		if r.own {
			in.Resource.Owner = in.Principal.ID
		}
		combine(dims, in, func(in Input) bool {
			_, right := byRight(&in)
			found = found || right && n.Holds(&in)
			return !found
		})
	}
	return found
}

// byRight is why an input is allowed whatever the policies say; ok is false if it is
// not. Nothing is given by right: with scopes, policies decide.
func byRight(in *Input) (r Reason, ok bool) {
	if len(in.Context.Scopes) > 0 {
		return r, false
	}
	for _, r := range rights[in.Action] {
		switch {
		case r.kind != in.Principal.Kind, r.own && (in.Principal.ID == "" || in.Resource.Owner != in.Principal.ID):
			continue
		case r.link && !in.Context.Presented, !r.link && !in.Context.Assurance.Meets(assurance.Ask{Rung: assurance.Single}, in.Context.Now):
			continue
		}
		return Reason{Policy: RightReason + string(in.Action), Text: "Nobody is kept from saying no, or from ending what is theirs."}, true
	}
	return Reason{}, false
}
