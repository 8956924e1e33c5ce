package view

import (
	"fmt"
	"strings"
	"time"

	rules "github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/diff"
)

// statementOf is what is signed of a change of one file, with rules and exceptions.
func statementOf(was, is string) Statement {
	source := func(text string) rules.Source {
		return rules.Source{Files: []rules.File{{Name: "50-deploys.cedar", Text: text}}}
	}
	s := Statement{
		Title: "What is signed",
		Facts: []Fact{
			NewFact("Publication", "pub_01JDMX3ZK0W4T5Y6A7B8C9D0E1"), NewFact("Server", "https://auth.example.com"),
			NewFact("Hash of the policies", "sha256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"), NewFact("They follow", "version 3"),
			NewFact("Submitted", Moment(ago(9*time.Minute))+", by the service Deploys (svc_01JDMX3ZK0W4T5Y6A7B8C9D0E1)"),
			NewFact("Why, in their words", "Deploys need a passkey"), NewFact("They come into force", "at once, for everybody"),
		},
		Parts: []Part{
			{Title: "Rules", Lines: []diff.Line{NewLine(diff.New, "deploy.prod: Deploying needs a passkey used in the last 5 minutes."), NewLine(diff.Gone, "deploy.any: Anybody may deploy."), NewLine('~', "deploy.plan: Planning a deploy needs two factors. (Before: Planning a deploy needs one.)")}},
			{Title: "Exceptions", None: "No exception comes, goes or changes."},
		},
	}
	for _, f := range diff.Of(source(was), source(is), 2) {
		s.Parts = append(s.Parts, FilePart(f))
	}
	return s
}

const deploysWas = `@id("deploy.any")
@reason("Anybody may deploy.")
permit (
  principal is Person,
  action == Action::"deploy",
  resource
);
`

const deploysIs = `@id("deploy.prod")
@reason("Deploying needs a passkey used in the last 5 minutes.")
permit (
  principal is Person,
  action == Action::"deploy",
  resource
)
when { context.assurance.age.phr <= duration("5m") };
`

// publicationCases are the pages of policies that are to come into force, in all their
// states.
func publicationCases() []testCase {
	short := statementOf(deploysWas, deploysIs)
	waves := statementOf(deploysWas, deploysIs)
	waves.Facts[6] = NewFact("They come into force", "in waves, as a rollout")
	waves.Parts = append([]Part{{Title: "Waves", Lines: []diff.Line{
		NewLine(' ', "1: platform, ops; from 24 November 2026, 08:00 UTC; at most 10 asked for more and 0 refused in any 24 hours, else it goes back by itself"),
		NewLine(' ', "2: everybody else; from 1 December 2026, 08:00 UTC; at most 50 asked for more and 2 refused in any 24 hours, else it goes back by itself"),
	}}}, waves.Parts...)
	var long strings.Builder
	for i := range 800 {
		fmt.Fprintf(&long, "// line %d of a file that is long\n", i)
	}
	big := statementOf(deploysWas, long.String())
	hostile := statementOf(deploysWas, "permit (principal in Group::\"\u0430dministrators\u202e\u200b\");\n\t\u0000\n<script>alert(1)</script>")
	sign := &Ceremony{Options: "/o", Finish: "/f", Hidden: []Field{{"view", "v"}, {"then", "put"}}}
	leave := &Ceremony{Options: "/o", Finish: "/f", Hidden: []Field{{"view", "v"}, {"then", "leave"}}}
	withdraw := &Form{Action: "/w"}
	unsigned := Publication{State: PublicationUnsigned, Statement: short, TextURL: "/t", Until: in(20 * time.Hour), SignAndPut: sign, SignAndLeave: leave, Withdraw: withdraw}
	service, bigger, odd, not, none, signed, waiting, force, rolled, gone, over, moved := unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned
	service.Service, service.Statement = "Deploys", waves
	bigger.Statement, odd.Statement = big, hostile
	odd.Service = "Deploys\u202e\u200b <b>"
	not.SignAndPut, not.Withdraw, not.Not = nil, nil, "Signing policies is not for you."
	not.Would = []Why{{Text: "Publishing policies needs an administrator's phishing-resistant sign-in from the last 5 minutes.", Policy: "policy.publish"}}
	none.SignAndPut, none.Not, none.AddURL = nil, "You have no passkey that counts for this. One that was added a short time ago counts from tomorrow on.", "/account/passkeys/add"
	signed.State, signed.SignAndPut, signed.SignedByYou, signed.SignedAt, signed.SignedUntil, signed.Service = PublicationSigned, nil, true, ago(3*time.Minute), in(57*time.Minute), "Deploys"
	signed.PutInForce = &Form{Action: "/c"}
	waiting.State, waiting.SignAndPut, waiting.Withdraw, waiting.SignedBy, waiting.SignedAt, waiting.SignedUntil = PublicationSigned, nil, nil, "Sam Lindqvist", ago(3*time.Minute), in(57*time.Minute)
	closed := func(m *Publication, s PublicationState) { m.State, m.SignAndPut, m.Withdraw = s, nil, nil }
	for m, s := range map[*Publication]PublicationState{&force: PublicationInForce, &rolled: PublicationInForce, &gone: PublicationWithdrawn, &over: PublicationExpired, &moved: PublicationOvertaken} {
		closed(m, s)
	}
	force.Became, force.SignedBy, force.SignedAt = Link{"version 4", ""}, "Dana Okafor", ago(2*day)
	rolled.Became, rolled.SignedBy, rolled.SignedAt = Link{"rollout 2", PathRollout}, "Dana Okafor", ago(2*day)
	rolled.Statement = waves
	over.Until, moved.InForce = ago(3*time.Hour), 5
	states := []Choice{{"Open", "/p?1", true}, {"All", "/p?2", false}}
	row := PublicationRow{Note: "Deploys need a passkey", Who: "Deploys", At: ago(9 * time.Minute), Until: in(20 * time.Hour), URL: "/p/1"}
	second, third := row, row
	second.Note, second.Who, second.State, second.Waves = "", "Dana \u202eOkafor", PublicationSigned, 2
	third.State, third.At = PublicationInForce, ago(3*day)
	return []testCase{
		{"publications", dana(PathPublications), Publications{Items: []PublicationRow{row, second, third}, States: states, Older: "/p?before=1"}},
		{"publications-none", dana(PathPublications), Publications{States: states}},
		{"publication", dana(PathPublications), unsigned},
		{"publication-service", dana(PathPublications), service},
		{"publication-long", dana(PathPublications), bigger},
		{"publication-odd", dana(PathPublications), odd},
		{"publication-not", dana(PathPublications), not},
		{"publication-no-passkey", dana(PathPublications), none},
		{"publication-signed", dana(PathPublications), signed},
		{"publication-signed-by-another", dana(PathPublications), waiting},
		{"publication-in-force", dana(PathPublications), force},
		{"publication-rollout", dana(PathPublications), rolled},
		{"publication-withdrawn", dana(PathPublications), gone},
		{"publication-over", dana(PathPublications), over},
		{"publication-overtaken", dana(PathPublications), moved},
	}
}
