package view

import "time"

func requestCases() []testCase {
	desk := App{Name: "Call centre", Trust: Registered}
	asked := RequestAsk{
		App: desk, Message: "W4SCT", From: "203.0.113.40", At: ago(40 * time.Second), Resource: "Accounts", ResourceURL: "https://accounts.example.com",
		Permissions: []Permission{
			{Group: Read, Text: "See your accounts", Scope: "accounts:read"},
			{Group: Admin, Text: "Rotate the keys of the service", Scope: "keys:rotate", Again: "a passkey used in the last 5 minutes"},
		},
		Form: form, Switch: &form, Deadline: Deadline{At: in(4 * time.Minute)},
	}
	proved := asked
	proved.Proved = true
	number := proved
	number.Number, number.Message = true, ""
	wrong := number
	wrong.Typed.Error = "That is not the number that the app shows. Tries left: 2."
	barred := asked
	barred.Barred = "Nobody allows this from outside the office."
	detailed := proved
	detailed.Details = []Detail{{Resource: "Accounts", Said: []Said{{Text: "Pay "}, {Text: "12.50 €", Supplied: true}, {Text: " to "}, {Text: "Acme", Supplied: true}}, Fields: []Field{{"amount", "12.50"}, {"to", "Acme"}}}}
	odd := number
	odd.App.Name, odd.Message, odd.From = hostile, "pay\u202e 001<script>", ""
	nobody := asked
	nobody.Permissions, nobody.Resource, nobody.From = nil, "", ""
	list := Requests{Items: []RequestItem{
		{App: desk, Message: "W4SCT", At: ago(40 * time.Second), Until: in(4 * time.Minute), Open: Form{Action: PathRequests + "/open", Hidden: []Field{{"id", "1"}}}},
		{App: App{Name: hostile}, At: ago(2 * time.Minute), Until: in(time.Minute), Open: Form{Action: PathRequests + "/open", Hidden: []Field{{"id", "2"}}}},
	}}
	here := dana(PathRequests)
	here.User.Asked = true
	return []testCase{
		{"requests", here, list},
		{"requests-none", here, Requests{}},
		{"request-ask", dana(""), asked},
		{"request-ask-proved", dana(""), proved},
		{"request-ask-number", dana(""), number},
		{"request-ask-wrong", dana(""), wrong},
		{"request-ask-barred", sam(""), barred},
		{"request-ask-details", dana(""), detailed},
		{"request-ask-hostile", dana(""), odd},
		{"request-ask-identity", dana(""), nobody},
		{"request-allowed", dana(""), Done{Headline: "You allowed it", Text: "Go back to where you started it: the app goes on by itself within seconds. You can close this tab.", Next: &Link{"See what is running in your name", PathSessions}}},
		{"request-denied", dana(""), Done{Headline: "Nothing was allowed", Text: "The app was told no.", Next: &Link{"Back to your requests", PathRequests}}},
	}
}
