package ruleset

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

const here = "https://id.example.com"

func ofSource(src policy.Source, waves ...policy.Wave) Publication {
	return Publication{After: 2, Hash: src.Hash(), Source: src, Waves: waves, By: "svc_ci", ByKind: policy.KindService}.New("pub_1", noon).Publication
}

// evidence is what a browser gives, of a ceremony of a publication.
func evidence(t *testing.T, p *Publication, edit func(ceremony, client map[string]any)) Signature {
	t.Helper()
	c := map[string]any{"v": 1, "req": p.ID, "by": "usr_1", "dec": "publish", "nonce": "x"}
	d := map[string]any{"type": "webauthn.get", "origin": here}
	edit(c, d)
	ceremony, err := canon.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if d["challenge"] == nil {
		challenge := p.Challenge(here, ceremony)
		d["challenge"] = base64.RawURLEncoding.EncodeToString(challenge[:])
	}
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return Signature{By: "usr_1", Credential: "cred_1", Ceremony: ceremony, ClientData: data}
}

func as(map[string]any, map[string]any) {}

// A signature is of one set, after one version, with one plan, by one person, at one
// issuer, and of nothing else.
func TestWhatIsSigned(t *testing.T) {
	src := policy.Default()
	other := policy.Default()
	other.Files = other.Files[1:]
	wave := policy.Wave{Groups: []string{"a", "b"}, From: noon, Budget: policy.Budget{Prompts: 3, Denials: 1}}
	p := ofSource(src, wave)
	good := evidence(t, &p, as)
	sign, err := p.Sign(good, here, noon.Add(time.Minute))
	if err != nil || sign.Hash != p.Hash || sign.Plan != p.Plan() || sign.After != 2 || sign.ID != p.ID || !sign.Signature.Until.Equal(noon.Add(time.Minute+SignedLife)) {
		t.Fatalf("%+v %v", sign, err)
	}
	turned := p
	turned.Waves = []policy.Wave{{Groups: []string{"b", "a"}, From: noon.In(time.FixedZone("", 3600)), Budget: wave.Budget}}
	if turned.Plan() != p.Plan() || PlanHash(nil) != "" {
		t.Error("the same plan has another hash")
	}
	for name, edit := range map[string]func(*Publication){
		"publication": func(p *Publication) { p.ID = "pub_2" },
		"version":     func(p *Publication) { p.After = 3 },
		"set":         func(p *Publication) { p.Hash = other.Hash() },
		"no plan":     func(p *Publication) { p.Waves = nil },
		"groups": func(p *Publication) {
			p.Waves = []policy.Wave{{Groups: []string{"a"}, From: noon, Budget: wave.Budget}}
		},
		"everybody": func(p *Publication) { p.Waves = []policy.Wave{{Rest: true, From: noon, Budget: wave.Budget}} },
		"date": func(p *Publication) {
			p.Waves = []policy.Wave{{Groups: wave.Groups, From: noon.Add(time.Microsecond), Budget: wave.Budget}}
		},
		"budget": func(p *Publication) {
			p.Waves = []policy.Wave{{Groups: wave.Groups, From: noon, Budget: policy.Budget{Prompts: 3}}}
		},
		"one more": func(p *Publication) { p.Waves = []policy.Wave{wave, {Rest: true, From: noon}} },
	} {
		q := p
		edit(&q)
		if _, err := q.Sign(good, here, noon); problem.CodeOf(err) != "signature_other" {
			t.Errorf("of another %s: %v", name, err)
		}
	}
	if _, err := p.Sign(good, "https://other.example.com", noon); problem.CodeOf(err) != "signature_other" {
		t.Errorf("of another issuer: %v", err)
	}
	for name, edit := range map[string]func(c, d map[string]any){
		"decision":  func(c, _ map[string]any) { c["dec"] = "approve" },
		"request":   func(c, _ map[string]any) { c["req"] = "pub_2" },
		"person":    func(c, _ map[string]any) { c["by"] = "usr_2" },
		"type":      func(_, d map[string]any) { d["type"] = "webauthn.create" },
		"challenge": func(_, d map[string]any) { d["challenge"] = "AAAA" },
	} {
		if _, err := p.Sign(evidence(t, &p, edit), here, noon); problem.CodeOf(err) != "signature_other" {
			t.Errorf("another %s: %v", name, err)
		}
	}
	loose := good
	loose.Ceremony = append([]byte(" "), good.Ceremony...)
	if _, err := p.Sign(loose, here, noon); problem.CodeOf(err) != "signature_other" {
		t.Errorf("a ceremony that is not canonical: %v", err)
	}
	late, err := p.Sign(good, here, p.Until.Add(-time.Minute))
	if err != nil || !late.Signature.Until.Equal(p.Until) {
		t.Errorf("a signature counts beyond what is signed: %+v %v", late.Signature.Until, err)
	}
	if _, err := p.Sign(good, here, p.Until); problem.CodeOf(err) != "publication_over" {
		t.Errorf("%v", err)
	}
}

// rolled is the rollouts that there were.
type rolled struct {
	RolloutStore
	n int64
}

func (r rolled) Rollouts(context.Context, int64, int) ([]Rollout, error) {
	if r.n == 0 {
		return nil, nil
	}
	return []Rollout{{N: r.n}}, nil
}

// What is carried out is decided from nothing: its state, its time, its signature, and
// everything that its policies have to prove.
func TestCarryOut(t *testing.T) {
	d := Desk{Issuer: here, Rollouts: rolled{n: 4}, Group: func(_ context.Context, name string) error {
		if name == "gone" {
			return problem.New(problem.NotFound, "group_not_found", "Gone.")
		}
		return nil
	}}
	signed := func(src policy.Source, waves ...policy.Wave) Publication {
		p := ofSource(src, waves...)
		s, err := p.Sign(evidence(t, &p, as), here, noon)
		if err != nil {
			t.Fatal(err)
		}
		p.State, p.Signed, p.Until = Signed, &s.Signature, s.Signature.Until
		return p
	}
	src := policy.Default()
	p := signed(src)
	out, err := d.CarryOut(t.Context(), &p, "svc_ci", noon)
	if err != nil || out.Kind != audit.PolicyPublished || out.Signer != "usr_1" || out.Became != 3 || out.Said["publication"] != "pub_1" {
		t.Fatalf("%+v %v", out, err)
	}
	if c := out.Changes[0].(Publish); !c.Spends || c.N != 3 || c.By != "usr_1" || c.Carrier != "svc_ci" || c.Publication != "pub_1" || c.Signature == nil || c.Of != NoVersion {
		t.Errorf("%+v", c)
	}
	p = signed(src, policy.Wave{Groups: []string{"a"}, From: noon})
	if out, err = d.CarryOut(t.Context(), &p, "usr_2", noon); err != nil || out.Kind != audit.RolloutStarted || out.Became != 5 || out.Said["rollout"] != int64(5) || out.Said["version"] != nil {
		t.Fatalf("%+v %v", out, err)
	}
	if c := out.Changes[0].(Start); c.N != 5 || c.Base != 2 || c.By != "usr_1" || c.Carrier != "usr_2" || c.Publication != "pub_1" || c.State != Open {
		t.Errorf("%+v", c)
	}
	waived := policy.Default()
	waived.Exceptions = []policy.Exception{{ID: "e", Rule: "admin.write", For: "usr_1", Owner: "o", Reason: "r", Rung: 2, Until: noon.Add(policy.MaxException)}}
	low := waived
	low.Floors = []policy.File{{Name: "f.policy.yaml", Text: "never:\n  - name: n\n    actions: [client.write]\n    below: phr\n"}}
	for name, c := range map[string]struct {
		src   policy.Source
		waves []policy.Wave
		edit  func(*Publication)
		code  string
		after time.Duration
	}{
		"unsigned":           {src: src, edit: func(p *Publication) { p.State, p.Signed = Unsigned, nil }, code: "publication_unsigned"},
		"withdrawn":          {src: src, edit: func(p *Publication) { p.State = Withdrawn }, code: "publication_over"},
		"ended":              {src: src, edit: func(p *Publication) { p.State = Ended }, code: "publication_over"},
		"carried out":        {src: src, edit: func(p *Publication) { p.State = CarriedOut }, code: "publication_over"},
		"expired":            {src: src, after: SignedLife, code: "publication_over"},
		"just in time":       {src: src, after: SignedLife - time.Microsecond},
		"altered":            {src: src, edit: func(p *Publication) { p.Source.Files = p.Source.Files[1:] }, code: "publication_altered"},
		"another version":    {src: src, edit: func(p *Publication) { p.After = 3 }, code: "signature_other"},
		"another plan":       {src: src, edit: func(p *Publication) { p.Waves = []policy.Wave{{Rest: true, From: noon}} }, code: "signature_other"},
		"another signature":  {src: src, edit: func(p *Publication) { s := *p.Signed; s.By = "usr_2"; p.Signed = &s }, code: "signature_other"},
		"no evidence":        {src: src, edit: func(p *Publication) { p.Signed = &Signature{By: "usr_1"} }, code: "signature_other"},
		"floor":              {src: low, code: "policy_floor"},
		"exception":          {src: waived},
		"group that is gone": {src: src, waves: []policy.Wave{{Groups: []string{"gone"}, From: noon}}, code: "group_not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			p := signed(c.src, c.waves...)
			if c.edit != nil {
				c.edit(&p)
			}
			_, err := d.CarryOut(t.Context(), &p, "svc_ci", noon.Add(c.after))
			if problem.CodeOf(err) != c.code {
				t.Errorf("%v", err)
			}
		})
	}
}

// Whoever signs has to be able to sign and to submit another under what they sign.
func TestSigningIsUndoable(t *testing.T) {
	in := policy.Input{
		Principal: policy.Entity{Kind: policy.KindPerson, ID: "usr_1", Groups: []string{policy.Administrators}},
		Context:   policy.Context{Now: noon, Assurance: assurance.Evaluate("usr_1", []assurance.Proof{{Method: assurance.Passkey, Subject: "usr_1", At: noon, UserVerified: true, PhishingResistant: true}}, noon)},
	}
	for rule, locks := range map[string]bool{
		``: false,
		`@id("a") @reason("r") forbid (principal is Person, action == Action::"policy.publish", resource);`: true,
		`@id("b") @reason("r") forbid (principal is Person, action == Action::"policy.submit", resource);`:  true,
		`@id("c") @reason("r") forbid (principal is Service, action == Action::"policy.submit", resource);`: false,
	} {
		src := policy.Default()
		if rule != "" {
			src.Files = append(src.Files, policy.File{Name: "99.cedar", Text: rule})
		}
		d := Desk{Issuer: here, Publications: kept{p: ofSource(src)}}
		_, check, err := d.Signing(t.Context(), "pub_1", noon)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(in); (err != nil) != locks || err != nil && (problem.CodeOf(err) != "policy_locks_out" || !errors.Is(err, problem.Conflict)) {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// kept is one publication.
type kept struct {
	PublicationStore
	p Publication
}

func (k kept) Publication(context.Context, string) (Publication, error) { return k.p, nil }
