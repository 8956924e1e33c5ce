package assurance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	dana = "usr_dana"

	// Methods of later releases, as the table will know them.
	push Method = "push"
	pin  Method = "pin" // a code that somebody knows, so that two codes differ in nature
)

// wider is the table with factors that this release does not have, so that every
// cell of rung 2 is tested.
var wider = factors{
	Passkey:     personal[Passkey],
	SecurityKey: personal[SecurityKey],
	Password:    personal[Password],
	TOTP:        personal[TOTP],
	push:        {nature: possession, amr: []string{"mca"}},
	pin:         {nature: knowledge, code: true, amr: []string{"pin"}},
}

func key(age time.Duration, with ...func(*Proof)) Proof {
	p := Proof{Method: Passkey, Subject: dana, Credential: "cred_key", At: t0.Add(-age), PhishingResistant: true}
	for _, f := range with {
		f(&p)
	}
	return p
}

func uv(p *Proof)       { p.UserVerified = true }
func synced(p *Proof)   { p.Synced = true }
func hard(p *Proof)     { p.HardwareBound = true }
func attested(p *Proof) { p.Attested = true }
func roaming(p *Proof)  { p.Method = SecurityKey }
func named(c string) func(*Proof) {
	return func(p *Proof) { p.Credential = c }
}

func other(m Method, age time.Duration) Proof {
	return Proof{Method: m, Subject: dana, Credential: "cred_" + string(m), At: t0.Add(-age)}
}

func best(pairs []Pair) Rung {
	if len(pairs) == 0 {
		return None
	}
	return pairs[len(pairs)-1].Rung
}

// Every cell of a key's facts: method × UV × bound × attested × synced.
func TestEveryCellOfAKey(t *testing.T) {
	for _, m := range []Method{Passkey, SecurityKey} {
		for bits := range 16 {
			p := Proof{
				Method: m, Subject: dana, Credential: "cred_1", At: t0,
				UserVerified: bits&1 != 0, HardwareBound: bits&2 != 0, Attested: bits&4 != 0, Synced: bits&8 != 0,
			}
			want, amr := Single, []string{"swk", "pop"}
			switch bits {
			case 0b0111:
				want, amr = Hardware, []string{"hwk", "mfa", "user", "pop"}
			case 0b0011:
				want, amr = Phishing, []string{"hwk", "mfa", "user", "pop"}
			case 0b0001, 0b0101, 0b1001, 0b1011, 0b1101, 0b1111:
				want, amr = Phishing, []string{"swk", "mfa", "user", "pop"}
			case 0b0010, 0b0110:
				amr = []string{"hwk", "pop"}
			}
			s := Evaluate(dana, []Proof{p}, t0)
			var pairs []Pair
			for r := Single; r <= want; r++ {
				pairs = append(pairs, Pair{Rung: r, AuthTime: t0, AMR: amr, Credentials: []string{"cred_1"}})
			}
			wantState := State{Pairs: pairs, PhishingResistant: true, HardwareBound: amr[0] == "hwk", HumanPresent: true}
			if diff := cmp.Diff(wantState, s); diff != "" {
				t.Errorf("%s %04b: %s", m, bits, diff)
			}
		}
	}
}

// A temporary pass is two factors, of which one is typed, and never more.
func TestTemporaryPass(t *testing.T) {
	p := Proof{Method: TemporaryPass, Subject: dana, At: t0, UserVerified: true, HardwareBound: true, Attested: true}
	s := Evaluate(dana, []Proof{p}, t0)
	if s.Best().Rung != Multi || s.PhishingResistant || s.HardwareBound || !s.HumanPresent || len(s.Best().AMR) != 1 || s.Best().AMR[0] != "otp" {
		t.Errorf("%+v", s)
	}
	p.Until = t0
	if s := Evaluate(dana, []Proof{p}, t0); len(s.Pairs) != 0 {
		t.Errorf("when its time is over: %+v", s)
	}
}

func TestTwoFactors(t *testing.T) {
	for _, c := range []struct {
		name   string
		proofs []Proof
		want   Rung
	}{
		{"nothing", nil, None},
		{"a password", []Proof{other(Password, 0)}, Single},
		{"a code", []Proof{other(TOTP, 0)}, Single},
		{"a password twice", []Proof{other(Password, 0), other(Password, time.Minute)}, Single},
		{"two keys without verification", []Proof{key(0), key(0, roaming, named("cred_2"))}, Single},
		{"a key and a push: both something one has", []Proof{key(0), other(push, 0)}, Single},
		{"a password and a code", []Proof{other(Password, 0), other(TOTP, 0)}, Multi},
		{"two codes of different natures", []Proof{other(pin, 0), other(TOTP, 0)}, Single},
		{"a code twice", []Proof{other(TOTP, 0), other(TOTP, time.Minute)}, Single},
		{"a code and an unverified key: both something one has", []Proof{other(TOTP, 0), key(0)}, Single},
		{"one typed", []Proof{other(Password, 0), other(push, 0)}, Multi},
		{"password and unverified key", []Proof{other(Password, 0), key(0)}, Multi},
		{"user-verified key alone", []Proof{key(0, uv, synced)}, Phishing},
		{"everything typed beside a verified key", []Proof{other(Password, 0), other(TOTP, 0), key(0, uv)}, Phishing},
	} {
		if got := best(wider.pairs(wider.events(dana, c.proofs, t0))); got != c.want {
			t.Errorf("%s: rung %d, want %d", c.name, got, c.want)
		}
	}
}

func TestPairsOfTwoFactorsSayWhichAndWhen(t *testing.T) {
	s := wider.evaluate(dana, []Proof{other(Password, 3*time.Minute), key(time.Minute)}, t0)
	want := State{
		Pairs: []Pair{
			{Rung: Single, AuthTime: at(-time.Minute), AMR: []string{"swk", "pop"}, Credentials: []string{"cred_key"}},
			{Rung: Multi, AuthTime: at(-3 * time.Minute), AMR: []string{"swk", "pop", "pwd", "mfa"}, Credentials: []string{"cred_key", "cred_password"}},
		},
		PhishingResistant: true, HumanPresent: true,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	s = wider.evaluate(dana, []Proof{other(Password, 0)}, t0)
	if s.PhishingResistant || s.HardwareBound || !s.HumanPresent {
		t.Errorf("a password's facts: %+v", s)
	}
	anonymous := other(Password, 0)
	anonymous.Credential = ""
	if p := wider.evaluate(dana, []Proof{anonymous}, t0).Best(); p.Credentials != nil {
		t.Errorf("a factor without an id is named %q", p.Credentials)
	}
}

func TestANewerWeakerEventMovesNothing(t *testing.T) {
	strong := key(time.Hour, uv, hard, attested)
	for _, weak := range []Proof{other(Password, time.Minute), other(TOTP, time.Minute), key(time.Minute, named("cred_2"))} {
		pairs := wider.pairs(wider.events(dana, []Proof{strong, weak}, t0))
		if len(pairs) != 4 || !pairs[0].AuthTime.Equal(weak.At) {
			t.Fatalf("%s: %+v", weak.Method, pairs)
		}
		for _, p := range pairs[1:] {
			if !p.AuthTime.Equal(strong.At) {
				t.Errorf("%s moved rung %d to %v", weak.Method, p.Rung, p.AuthTime)
			}
		}
	}
	// A newer rung 3 moves rungs 1 to 3 and leaves rung 4.
	s := Evaluate(dana, []Proof{strong, key(time.Minute, uv, synced, named("cred_2"))}, t0)
	for r, age := range map[Rung]time.Duration{Single: time.Minute, Multi: time.Minute, Phishing: time.Minute, Hardware: time.Hour} {
		if p, ok := s.Pair(r); !ok || t0.Sub(p.AuthTime) != age {
			t.Errorf("rung %d: %+v", r, p)
		}
	}
}

func TestTwoFreshFactorsAreFresherThanOneOldKey(t *testing.T) {
	s := wider.evaluate(dana, []Proof{key(time.Hour, uv), other(Password, time.Minute), other(push, 2*time.Minute)}, t0)
	p, _ := s.Pair(Multi)
	if diff := cmp.Diff(Pair{Rung: Multi, AuthTime: at(-2 * time.Minute), AMR: []string{"pwd", "mca", "mfa"}, Credentials: []string{"cred_password", "cred_push"}}, p); diff != "" {
		t.Error(diff)
	}
}

func TestWhatNeverCounts(t *testing.T) {
	good := key(time.Minute, uv, hard, attested)
	if best(Pairs(dana, []Proof{good}, t0)) != Hardware {
		t.Fatal("control: the proof itself counts")
	}
	for name, spoil := range map[string]func(*Proof){
		"another's":     func(p *Proof) { p.Subject = "usr_sam" },
		"nobody's":      func(p *Proof) { p.Subject = "" },
		"without time":  func(p *Proof) { p.At = time.Time{} },
		"future":        func(p *Proof) { p.At = at(Skew + 1) },
		"past until":    func(p *Proof) { p.Until = at(-1) },
		"at until":      func(p *Proof) { p.Until = t0 },
		"no method":     func(p *Proof) { p.Method = "" },
		"unknown":       func(p *Proof) { p.Method = "magic" },
		"invitation":    func(p *Proof) { p.Method = Invitation },
		"setup":         func(p *Proof) { p.Method = Setup },
		"local root":    func(p *Proof) { p.Method = LocalRoot },
		"client secret": func(p *Proof) { p.Method = ClientSecret },
		"client key":    func(p *Proof) { p.Method = PrivateKeyJWT },
		"dpop":          func(p *Proof) { p.Method = DPoP },
	} {
		p := good
		spoil(&p)
		if got := Pairs(dana, []Proof{p}, t0); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
		if s := Evaluate(dana, []Proof{p}, t0); s.HumanPresent || s.PhishingResistant || s.HardwareBound {
			t.Errorf("%s leaves facts: %+v", name, s)
		}
	}
	if Pairs("", []Proof{{Method: Passkey, At: t0}}, t0) != nil {
		t.Error("nobody was proved")
	}
	for name, spoil := range map[string]func(*Proof){
		"within the skew": func(p *Proof) { p.At = at(Skew) },
		"before until":    func(p *Proof) { p.Until = at(1) },
	} {
		p := good
		spoil(&p)
		if best(Pairs(dana, []Proof{p}, t0)) != Hardware {
			t.Errorf("%s does not count", name)
		}
	}
	if Pairs(dana, []Proof{good}, time.Time{}) != nil {
		t.Error("without a time something counts")
	}
}

func TestMachines(t *testing.T) {
	proof := func(m Method, source string) Proof {
		return Proof{Method: m, Subject: "svc_1", At: t0, Source: source, SenderBound: true}
	}
	for _, c := range []struct {
		name    string
		proofs  []Proof
		sources int
		rung    Rung
	}{
		{"nothing", nil, 0, 0},
		{"secret", []Proof{proof(ClientSecret, "store:cli_1")}, 1, 1},
		{"key", []Proof{proof(PrivateKeyJWT, "store:cli_1")}, 1, 1},
		{"undeclared storage is one source", []Proof{proof(ClientSecret, ""), proof(PrivateKeyJWT, "")}, 1, 1},
		{"one source twice", []Proof{proof(ClientSecret, "a"), proof(PrivateKeyJWT, "a")}, 1, 1},
		{"two sources, still m1 here", []Proof{proof(ClientSecret, "a"), proof(PrivateKeyJWT, "b")}, 2, 1},
		{"a key made for this run is none", []Proof{proof(DPoP, "a")}, 0, 0},
		{"local root is none", []Proof{proof(LocalRoot, "a")}, 0, 0},
		{"another's", []Proof{{Method: ClientSecret, Subject: "svc_2", At: t0}}, 0, 0},
		{"without time", []Proof{{Method: ClientSecret, Subject: "svc_1"}}, 0, 0},
	} {
		want := State{Sources: c.sources, MachineRung: c.rung}
		if diff := cmp.Diff(want, Evaluate("svc_1", c.proofs, t0)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func anyProof() *rapid.Generator[Proof] {
	return rapid.Custom(func(t *rapid.T) Proof {
		return Proof{
			Method:        rapid.SampledFrom([]Method{Passkey, SecurityKey, Password, TOTP, push, pin, Invitation, ClientSecret}).Draw(t, "m"),
			Subject:       rapid.SampledFrom([]string{dana, dana, dana, "usr_sam"}).Draw(t, "s"),
			Credential:    fmt.Sprint("cred_", rapid.IntRange(0, 3).Draw(t, "c")),
			At:            at(time.Duration(rapid.IntRange(-10, 1).Draw(t, "at")) * time.Minute),
			UserVerified:  rapid.Bool().Draw(t, "uv"),
			HardwareBound: rapid.Bool().Draw(t, "hw"),
			Attested:      rapid.Bool().Draw(t, "att"),
			Synced:        rapid.Bool().Draw(t, "syn"),
			Cap:           rapid.SampledFrom([]Rung{None, None, None, Single, Multi, Hardware}).Draw(t, "cap"),
			CapUntil:      rapid.SampledFrom([]time.Time{{}, at(-time.Minute), t0, at(time.Minute)}).Draw(t, "until"),
		}
	})
}

// The two factors of a whole sign-in with everything typed: what they reach, and
// what they never do.
func TestAPasswordAndACodeAreTwoFactorsAndNoMore(t *testing.T) {
	s := Evaluate(dana, []Proof{other(Password, time.Minute), other(TOTP, 0)}, t0)
	want := State{
		Pairs: []Pair{
			{Rung: Single, AuthTime: t0, AMR: []string{"otp"}, Credentials: []string{"cred_totp"}},
			{Rung: Multi, AuthTime: at(-time.Minute), AMR: []string{"otp", "pwd", "mfa"}, Credentials: []string{"cred_totp", "cred_password"}},
		},
		HumanPresent: true,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	for _, m := range []Method{Password, TOTP} { // whatever a proof of theirs claims
		p := other(m, 0)
		p.UserVerified, p.HardwareBound, p.Attested, p.PhishingResistant = true, true, true, true
		if s := Evaluate(dana, []Proof{p}, t0); s.Best().Rung != Single || s.PhishingResistant || s.HardwareBound {
			t.Errorf("%s: %+v", m, s)
		}
	}
}

func TestACapHoldsUntilItsEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		cap   Rung
		until time.Time
		want  Rung
	}{
		{"none", None, time.Time{}, Hardware},
		{"two factors, for ever", Multi, time.Time{}, Multi},
		{"two factors, for a minute more", Multi, at(time.Minute), Multi},
		{"two factors, until now", Multi, t0, Hardware},
		{"one factor", Single, at(time.Minute), Single},
		{"above what it reaches", Hardware, time.Time{}, Hardware},
	} {
		p := key(0, uv, hard, attested)
		p.Cap, p.CapUntil = c.cap, c.until
		s := Evaluate(dana, []Proof{p}, t0)
		if s.Best().Rung != c.want {
			t.Errorf("%s: rung %d, want %d", c.name, s.Best().Rung, c.want)
		}
		if facts := s.PhishingResistant && s.HardwareBound; facts != (c.want == Hardware && c.cap == None || c.until.Equal(t0)) {
			t.Errorf("%s: facts %+v", c.name, s)
		}
	}
	both := key(0, uv)
	both.Cap = Single
	if s := Evaluate(dana, []Proof{both, other(Password, 0)}, t0); s.Best().Rung != Multi {
		t.Errorf("a capped key beside a password: rung %d", s.Best().Rung)
	}
}

// reach is the rung of a set of events, said as the page says it and slowly.
func reach(ps []Proof) Rung {
	r := None
	for _, p := range ps {
		f := wider[p.Method]
		alone := Single
		if f.bound && p.UserVerified {
			alone = Phishing
			if p.HardwareBound && p.Attested && !p.Synced {
				alone = Hardware
			}
		}
		if p.Cap != None && (p.CapUntil.IsZero() || p.CapUntil.After(t0)) {
			alone = min(alone, p.Cap)
		}
		r = max(r, alone)
		for _, q := range ps {
			g := wider[q.Method]
			if f.nature != g.nature && (!f.code || !g.code) {
				r = max(r, Multi)
			}
		}
	}
	return r
}

// The pair of a rung is the latest time T such that the events from T on reach
// it: checked against a slow statement of A17 for any proofs in any order.
func TestPairsAreTheLatestOldestEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		proofs := rapid.SliceOfN(anyProof(), 0, 7).Draw(t, "proofs")
		var counted []Proof
		for _, p := range proofs {
			if _, ok := wider[p.Method]; ok && p.Subject == dana && !p.At.After(at(Skew)) {
				counted = append(counted, p)
			}
		}
		got := map[Rung]time.Time{}
		pairs := wider.pairs(wider.events(dana, proofs, t0))
		for i, p := range pairs {
			if p.Rung != Rung(i+1) {
				t.Fatalf("not ascending: %+v", pairs)
			}
			got[p.Rung] = p.AuthTime
		}
		want := map[Rung]time.Time{}
		for _, p := range counted {
			var since []Proof
			for _, q := range counted {
				if !q.At.Before(p.At) {
					since = append(since, q)
				}
			}
			for r := Single; r <= reach(since); r++ {
				if p.At.After(want[r]) {
					want[r] = p.At
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		shuffled := rapid.Permutation(proofs).Draw(t, "order")
		if diff := cmp.Diff(pairs, wider.pairs(wider.events(dana, shuffled, t0))); diff != "" && distinct(counted) {
			t.Fatalf("the order matters: %s", diff)
		}
	})
}

// distinct reports whether no two proofs tie in everything that orders them.
func distinct(ps []Proof) bool {
	var seen []string
	for _, p := range ps {
		k := fmt.Sprint(p.At, p.Credential, p.Method)
		if slices.Contains(seen, k) {
			return false
		}
		seen = append(seen, k)
	}
	return true
}
