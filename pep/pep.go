// Package pep decides by policies within the resource server itself: without the network,
// in microseconds. It is an addition to the SDK, apart from it because it compiles the
// engine of policies (Cedar), which who only verifies tokens does without.
//
//	v, err := countersign.New(ctx, countersign.Config{
//		Issuer:   "https://id.example.com",
//		Audience: "https://deploy.example.com",
//		Client:   countersign.ClientAuth{ID: "deploy-api", Key: key},
//		Policies: pep.Engine(),
//	})
//	mux.Handle("POST /clusters/{name}/deploy", v.Protect(deploy,
//		countersign.RequireScope("deploy"),
//		countersign.RequireAction("deploy", func(r *http.Request) countersign.Resource {
//			return countersign.Resource{Type: "Cluster", ID: r.PathValue("name")}
//		})))
//
// The policies come from the issuer, signed; the SDK holds them, makes sure that they are
// the newest, and asks the issuer about actions that only it can decide.
package pep

import (
	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
)

// Engine evaluates the policies that the issuer gives to a resource server, as the issuer
// itself does: for countersign.Config.Policies.
func Engine() countersign.Policies { return engine{} }

type engine struct{}

// Compile implements countersign.Policies.
func (engine) Compile(schema, policies string) (countersign.Decider, error) {
	set, err := policy.CompileExcerpt(policy.Excerpt{Schema: schema, Policies: policies})
	if err != nil {
		return nil, err
	}
	return &decider{set}, nil
}

type decider struct{ set *policy.Set }

var ladder = assurance.Default()

// Decide implements countersign.Decider.
func (d *decider) Decide(q *countersign.Question) countersign.Answer {
	in := policy.Input{
		Principal: policy.Entity{Kind: policy.KindService, ID: q.Token.Subject, Groups: q.Groups},
		Action:    policy.Action(q.Action),
		Resource:  policy.Resource{Type: q.Resource.Type, ID: q.Resource.ID, Owner: q.Resource.Owner, Attributes: q.Resource.Properties},
	}
	if q.Token.Person() {
		in.Principal.Kind = policy.KindPerson
	}
	c := &in.Context
	c.Now, c.Assurance, c.Risk = q.Now, q.Assurance, policy.UnknownRisk
	c.Token = policy.Token{Known: true, Age: max(q.Now.Sub(q.Token.IssuedAt), 0), Bound: q.Bound, Depth: q.Token.Act.Depth()}
	dec := d.set.Decide(in, nil)
	switch dec.Outcome {
	case policy.Allow:
		return countersign.Answer{Allowed: true}
	case policy.StepUp:
		a := countersign.Answer{StepUp: true, Rung: dec.Ask.Rung, MaxAge: dec.Ask.MaxAge}
		if p := dec.Problem(ladder); p.Challenge != nil {
			a.Text = p.Challenge.Public
		}
		return a
	}
	return countersign.Answer{Machine: d.set.MachineNeeds(in)}
}
