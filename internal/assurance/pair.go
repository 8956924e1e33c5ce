package assurance

import (
	"cmp"
	"slices"
	"time"
)

// Skew is how far in the future a proof of our own may lie: replicas' clocks
// differ a little. Anything later does not count.
const Skew = 5 * time.Second

// Pair is one true statement about a person's sign-in: a rung, and the time of
// the oldest authentication event needed to reach it (mechanisms A17). acr and
// auth_time of a token always come from one Pair.
type Pair struct {
	Rung        Rung      `json:"rung"`
	AuthTime    time.Time `json:"auth_time"`
	AMR         []string  `json:"amr,omitempty"`  // RFC 8176 names, of the events this pair needs
	Credentials []string  `json:"cred,omitempty"` // ids of the factors used, newest event first
}

// nature is what sort of thing a factor is: two factors of one nature are one
// factor twice (SP 800-63B-4).
type nature int

const (
	possession nature = iota + 1
	knowledge
)

// factor is what the ladder needs to know of a person's method.
type factor struct {
	nature nature
	code   bool     // a code that is read and typed; of two factors one at most may be that
	bound  bool     // answers only the right verifier: phishing-resistant by construction
	second bool     // stands for two factors: another person's passkey is behind it
	amr    []string // for methods whose amr does not depend on the event
}

// factors is a set of methods that count for a person's rung. What is not in it
// never counts: links, client credentials and keys of tools prove no person.
type factors map[Method]factor

// personal are the methods of this release. A method that is added later adds
// its row here and its cells to the ladder's test. None that is typed is bound:
// whoever can be talked into typing it elsewhere has given it away.
var personal = factors{
	Passkey:     {nature: possession, bound: true},
	SecurityKey: {nature: possession, bound: true},
	Password:    {nature: knowledge, amr: []string{"pwd"}},
	TOTP:        {nature: possession, code: true, amr: []string{"otp"}},
	// A helper's passkey made the pass for this person, who types it: two factors,
	// of which one is typed. It is never more.
	TemporaryPass: {nature: possession, code: true, second: true, amr: []string{"otp"}},
	// Another issuer's word. What it is worth is in the proof, by its registration:
	// see FederatedProof.
	Federated: {nature: possession, bound: true},
}

// FederatedProof is the word of a trusted issuer, known by source, that somebody
// signed in there at a time, worth a rung of ours. It is one factor if it is worth
// no more; a time that is not known is longer ago than any that can be asked for.
func FederatedProof(subject, source string, worth Rung, at time.Time) Proof {
	if at.IsZero() {
		at = time.Unix(0, 0).UTC()
	}
	p := Proof{
		Method: Federated, Subject: subject, Credential: source, At: at, Source: "issuer:" + source,
		UserVerified: worth >= Multi, HardwareBound: worth >= Hardware, Attested: worth >= Hardware,
	}
	if worth < Phishing {
		p.Cap = max(worth, Single)
	}
	return p
}

// event is a proof that counts.
type event struct {
	Proof
	factor
	rung   Rung // what this event reaches alone
	capped bool // it is worth less than its method says: its facts do not count
}

// capped reports whether the event counts for no more than Cap at now.
func (p Proof) capped(now time.Time) bool {
	return p.Cap != None && (p.CapUntil.IsZero() || now.Before(p.CapUntil))
}

// live reports whether a proof says something about subject at now.
func live(p Proof, subject string, now time.Time) bool {
	return subject != "" && p.Subject == subject &&
		!p.At.IsZero() && !p.At.After(now.Add(Skew)) &&
		(p.Until.IsZero() || now.Before(p.Until))
}

// events picks the proofs that count, newest first; at equal times the stronger
// first, so that the result does not depend on the order they came in.
func (f factors) events(subject string, proofs []Proof, now time.Time) []event {
	var out []event
	for _, p := range proofs {
		kind, ok := f[p.Method]
		if !ok || !live(p, subject, now) {
			continue
		}
		e := event{Proof: p, factor: kind, rung: alone(p, kind)}
		if p.capped(now) {
			e.rung, e.capped = min(e.rung, p.Cap), true
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b event) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.rung, a.rung),
			cmp.Compare(a.Credential, b.Credential), cmp.Compare(a.Method, b.Method))
	})
	return out
}

// alone is the rung of one event by itself ("The ladder, said without overlap").
func alone(p Proof, f factor) Rung {
	switch {
	case f.second:
		return Multi
	case !f.bound || !p.UserVerified:
		return Single
	case p.HardwareBound && p.Attested && !p.Synced:
		return Hardware
	default:
		return Phishing
	}
}

// pairs gives the best pair of every rung reached, ascending. Best is the one
// whose oldest needed event is the latest.
func (f factors) pairs(events []event) []Pair {
	var out []Pair
	for r := Single; r <= Hardware; r++ {
		one := slices.IndexFunc(events, func(e event) bool { return e.rung >= r })
		if r == Multi {
			if newer, older, ok := two(events); ok && (one < 0 || events[older].At.After(events[one].At)) {
				out = append(out, pairOf(r, events[newer], events[older]))
				continue
			}
		}
		if one >= 0 {
			out = append(out, pairOf(r, events[one]))
		}
	}
	return out
}

// two finds the freshest two events that are two factors: of different natures,
// at most one of them a typed code. A password with a code is two factors (SP
// 800-63B-4, AAL2); two codes are not. events are newest first, so the first older one
// with any partner is the answer.
func two(events []event) (newer, older int, ok bool) {
	for older := range events {
		for newer := range older {
			a, b := events[newer], events[older]
			if a.nature != b.nature && !(a.code && b.code) {
				return newer, older, true
			}
		}
	}
	return 0, 0, false
}

// pairOf makes a pair of one or two events, newest first.
func pairOf(r Rung, events ...event) Pair {
	p := Pair{Rung: r, AuthTime: events[len(events)-1].At}
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(p.AMR, n) {
				p.AMR = append(p.AMR, n)
			}
		}
	}
	for _, e := range events {
		add(e.methods()...)
		if e.Credential != "" {
			p.Credentials = append(p.Credentials, e.Credential)
		}
	}
	if len(events) > 1 {
		add("mfa")
	}
	return p
}

// methods are the RFC 8176 names of one event. A key that is not known to stay
// in its device is called software.
func (e event) methods() []string {
	if !e.bound {
		return e.amr
	}
	key := "swk"
	if e.HardwareBound && !e.Synced {
		key = "hwk"
	}
	if !e.UserVerified {
		return []string{key, "pop"}
	}
	return []string{key, "mfa", "user", "pop"}
}

// Pairs gives, for every rung that the proofs of subject reach at now, the pair
// with the latest AuthTime, ascending by rung. A newer, weaker event never moves
// the time of a stronger pair. Proofs of others, proofs more than Skew in the
// future, without a time or past their Until, and methods that prove no person
// do not count.
func Pairs(subject string, proofs []Proof, now time.Time) []Pair {
	return personal.pairs(personal.events(subject, proofs, now))
}
