package view

import (
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

// refusedWhy is a refusal as the signed-in person is told of it.
func refusedWhy() error {
	p := problem.New(problem.Denied, "denied", "This is not allowed.")
	p.Why = []problem.Reason{
		{Policy: "risk.extreme", Text: "This looks like an attack and is refused. Somebody will look at it."},
		{Text: "It shows no device that this account has."},
		{Text: "The network 203.0.113.0/24 is new for this account."},
	}
	return p
}

// reviewCases are the pages of what was refused, in all their states.
func reviewCases() []testCase {
	states := []Choice{{"Open", "/admin/reviews?state=open", true}, {"It was them", "/r?2", false}, {"It was not them", "/r?3", false}, {"Closed", "/r?4", false}, {"All", "/r?5", false}}
	open := ReviewRow{Who: "Mira Sokolova", What: "A new token for an app", App: "Release board", Risk: "extreme", Count: 3, LastAt: ago(4 * time.Minute), URL: "/r/1"}
	allowed, refused, closed := open, open, open
	allowed.State, allowed.Until, allowed.Count = ReviewAllowed, in(50*time.Minute), 1
	refused.State, refused.Who, refused.App, refused.What, refused.LastAt = ReviewRefused, "Nightly build", "", "A token", ago(3*day)
	closed.State, closed.What, closed.App = ReviewClosed, "person.erase", ""
	at := func(path string) *Form {
		return &Form{Action: "/admin/reviews/" + path, Hidden: []Field{{"id", "rvw_1"}}}
	}
	detail := ReviewDetail{
		ReviewRow: open, OpenedAt: ago(9 * time.Minute), Ref: "7F3A9C", Proved: "phr, with passkey", Network: "203.0.113.0/24", Device: "Firefox on Linux", Score: 105, Person: true,
		Links: []Link{{"Open the account", "/p"}, {"Find it in the log", "/l"}},
		Why:   []Why{{"This looks like an attack and is refused. Somebody will look at it.", "risk.extreme", "security"}},
		Terms: []Term{{45, "It shows no device that this account has.", "new_device"}, {15, "The network 203.0.113.0/24 is new for this account.", "new_network"}, {45, "9 accounts were tried from this network in vain.", "network_attacks"}},
		Around: []Record{
			{At: ago(9 * time.Minute), Text: "Mira Sokolova was refused a new token for Release board.", Outcome: "denied"},
			{At: ago(3 * time.Hour), Text: "Mira Sokolova signed in with a passkey (phr).", Outcome: "allowed"},
		},
		Allow: at("allow"), End: at("end"), Suspend: at("suspend"), Close: at("close"), Hours: 1, Back: PathReviews,
	}
	wrong, own, often, past, service := detail, detail, detail, detail, detail
	wrong.Reason = Input{Error: "Say how you know that it was them."}
	own.Allow, own.End, own.Suspend, own.Close, own.Not = nil, nil, nil, nil, "This is about you, or a service of yours: another administrator has to look at it."
	often.Risk, often.Terms, often.Allow, often.Why = "", nil, nil, []Why{{"Erasing a person needs an administrator's phishing-resistant sign-in from the last 5 minutes.", "admin.erase", ""}}
	often.NoAllow = "It was not refused for its risk, so nobody can vouch for it. What a rule refuses is made possible by an exception to that rule, in the policies."
	past.ReviewRow, past.By, past.Note, past.Allow, past.End, past.Suspend, past.Close = allowed, "Dana Okafor", "Called her, she is in Lisbon", nil, nil, nil, nil
	service.ReviewRow, service.Person, service.Suspend, service.Around, service.Links = refused, false, nil, nil, service.Links[1:]
	service.State = ReviewOpen
	return []testCase{
		{"reviews", dana(PathReviews), Reviews{Items: []ReviewRow{open, allowed, refused, closed}, States: states, Older: "/r?before=1"}},
		{"reviews-none", dana(PathReviews), Reviews{States: states}},
		{"review", dana(PathReviews), detail},
		{"review-wrong", dana(PathReviews), wrong},
		{"review-own", dana(PathReviews), own},
		{"review-often", dana(PathReviews), often},
		{"review-past", dana(PathReviews), past},
		{"review-service", dana(PathReviews), service},
	}
}
