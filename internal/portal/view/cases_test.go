package view

import (
	"errors"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

var testNow = time.Date(2026, 11, 23, 14, 5, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return testNow.Add(-d) }
func in(d time.Duration) time.Time  { return testNow.Add(d) }

const day = 24 * time.Hour

type testCase struct {
	name string
	page Page
	view View
}

func out() Page { return Page{Issuer: "auth.example.com", Now: testNow} }

func dana(here string) Page {
	p := out()
	p.User = &User{Name: "Dana Okafor", Username: "dana@example.com", Admin: true}
	p.Here = here
	return p
}

func sam(here string) Page {
	p := dana(here)
	p.User = &User{Name: "Sam Lindqvist", Username: "sam@example.com"}
	return p
}

func with(p Page, n Notice) Page {
	p.Notice = &n
	return p
}

var (
	cliApp  = App{Name: "Countersign command line", Trust: Registered, Local: true}
	webApp  = App{Name: "Release board", Trust: VerifiedDomain, Domain: "board.example.net", Return: "board.example.net"}
	oddApp  = App{Name: "Notes \u202egnp.sj\u200b <b>bold</b>", Trust: Unverified, Return: "аpple.example"}
	form    = Form{Action: "/x/act", Hidden: []Field{{"tx", "cs_tx_4fJ"}}}
	create  = Ceremony{Options: "/passkey/options", Finish: "/passkey/finish", Hidden: []Field{{"tx", "cs_tx_4fJ"}}}
	laptop  = Passkey{Name: "Dana's laptop", Model: "Windows Hello", AddedAt: ago(40 * day), LastUsedAt: ago(4 * time.Minute), Here: true, Rename: form, RemoveURL: "/account/passkeys/cred_1/remove"}
	phone   = Passkey{Name: "Phone", Model: "iCloud Keychain", Synced: true, AddedAt: ago(39 * day), LastUsedAt: ago(3 * day), Rename: form, RemoveURL: "/account/passkeys/cred_2/remove"}
	hardKey = Passkey{Name: "Blue security key", Model: "YubiKey 5C NFC", Hardware: true, AddedAt: ago(2 * day), Rename: form, RemoveURL: "/account/passkeys/cred_3/remove"}
)

var (
	ours   = Device{ID: "dev_01JD3V8XQ2ZK7W5N4M9R6T1B0C", Name: "Chrome on Linux", Network: "198.51.100.0/24", StartedAt: ago(40 * day), LastUsedAt: ago(time.Hour), Until: in(60 * day), Asset: "LT-0042", By: "Device management", URL: "/d/1"}
	theirs = Device{ID: "dev_01JE7K2M4N6P8Q0R2S4T6V8W0X", Name: "Safari on iPhone", StartedAt: ago(2 * day), LastUsedAt: ago(day), URL: "/d/2"}
)

const hostile = "<script>alert(1)</script>\"'\u202e\u200b\x00 javascript:alert(1)"

func tree() Node {
	return Node{Kind: PersonNode, Name: "Dana Okafor", EndURL: "/account/sessions/usr/end", Children: []Node{
		{Kind: DeviceNode, Name: "dana-laptop", ID: "dev_01JD3V8XQ2ZK7W5N4M9R6T1B0C", Managed: in(60 * day), Network: "198.51.100.7 – Example Net", LastUsedAt: ago(time.Minute), EndURL: "/e/1", Children: []Node{
			{Kind: SessionNode, Name: "Firefox on Linux", Here: true, Assurance: "passkey, verified", Until: in(4 * time.Minute), Network: "198.51.100.7", StartedAt: ago(3 * time.Hour), LastUsedAt: ago(5 * time.Second), ExpiresAt: in(9 * time.Hour), EndURL: "/e/2", Children: []Node{
				{Kind: GrantNode, Name: "Release board", Resource: "Release API", Scopes: []string{"release:read", "release:publish"}, Assurance: "passkey, verified", StartedAt: ago(2 * time.Hour), LastUsedAt: ago(20 * time.Minute), ExpiresAt: in(30 * day), EndURL: "/e/3"},
			}},
			{Kind: SessionNode, Name: "countersign (command line)", Assurance: "passkey, verified", StartedAt: ago(26 * time.Hour), LastUsedAt: ago(time.Minute), ExpiresAt: in(12 * day), EndURL: "/e/4", Children: []Node{
				{Kind: GrantNode, Name: "Countersign command line", Resource: "Sample notes API", Scopes: []string{"notes:read", "notes:write"}, Assurance: "passkey, verified", StartedAt: ago(26 * time.Hour), LastUsedAt: ago(time.Minute), EndURL: "/e/5"},
				{Kind: GrantNode, Name: "Countersign command line", Resource: "Sample notes API", Scopes: []string{"keys:rotate"}, Assurance: "passkey, used just now", Until: in(4 * time.Minute), StartedAt: ago(time.Minute), LastUsedAt: ago(time.Minute), ExpiresAt: in(4 * time.Minute), EndURL: "/e/6"},
			}},
		}},
		{Kind: DeviceNode, Name: "Pixel 9", Network: "203.0.113.40 – Mobile Example", LastUsedAt: ago(2 * day), EndURL: "/e/7", Children: []Node{
			{Kind: SessionNode, Name: "Chrome on Android", Assurance: "passkey, synced", StartedAt: ago(2 * day), LastUsedAt: ago(2 * day), ExpiresAt: in(5 * day), EndURL: "/e/8"},
		}},
	}}
}

func faults() []testCase {
	f := func(n string, _ int, v Fault) testCase { return testCase{"fault-" + n, out(), v} }
	p := func(n string, err error) testCase {
		_, v := OfError(err, testNow, "7F3A9C")
		return testCase{"fault-of-" + n, out(), v}
	}
	pair := func(n string) func(int, Fault) testCase {
		return func(s int, v Fault) testCase { return f(n, s, v) }
	}
	return []testCase{
		pair("unknown-client")(UnknownClient("abc-4711", "7F3A9C")),
		pair("unknown-client-hostile")(UnknownClient(hostile, "7F3A9C")),
		pair("bad-redirect")(BadRedirect("Release board", "https://board.example.net.evil.example/cb?x=1", "7F3A9C")),
		pair("bad-request")(BadRequest("It has two different values for “state”.", "7F3A9C")),
		pair("expired")(RequestExpired("Release board", &Link{"Go back to Release board", "https://board.example.net/"}, "7F3A9C")),
		pair("other-window")(OtherWindow("7F3A9C")),
		pair("other-browser")(OtherBrowser("7F3A9C")),
		pair("signed-out")(SignedOut("/signin?next=%2Faccount")),
		pair("forbidden")(Forbidden("see the audit log", "", "7F3A9C")),
		pair("not-found")(NotFound("7F3A9C")),
		pair("cross-site")(CrossSite("7F3A9C")),
		pair("throttled")(Throttled(in(27*time.Minute), "7F3A9C")),
		pair("unavailable")(Unavailable(in(10*time.Second), "7F3A9C")),
		pair("internal")(Internal("7F3A9C")),
		p("plain", errors.New("sql: secret detail")),
		p("conflict", problem.New(problem.Conflict, "x", "Somebody renamed it while you were looking.")),
		p("invalid", problem.New(problem.Invalid, "x", "The name is too long.").WithHint("Use at most 80 characters.")),
		p("why", refusedWhy()),
		p("stepup", problem.New(problem.StepUp, "x", "This needs a newer proof.")),
		p("unauthenticated", problem.New(problem.Unauthenticated, "x", "")),
		p("throttled", problem.New(problem.Throttled, "x", "")),
		p("not-found", problem.New(problem.NotFound, "x", "")),
		p("unavailable", problem.New(problem.Unavailable, "x", "")),
		p("denied", problem.New(problem.Denied, "x", "")),
	}
}

// cases are all pages in all their states.
func cases() []testCase {
	unnamed := laptop
	unnamed.NewName.Error = "Write a name of at most 60 characters."
	soon := Deadline{At: in(12 * time.Minute), Extend: "/extend"}
	add := Link{"Add a security key", "/account/passkeys/add"}
	perms := []Permission{
		{Group: Read, Text: "See your notes", Scope: "notes:read"},
		{Group: Change, Text: "Create, change and delete your notes", Scope: "notes:write"},
		{Group: Admin, Text: "Rotate the keys of the service", Scope: "keys:rotate", Again: "a passkey used in the last 5 minutes"},
	}
	grown := append([]Permission{}, perms...)
	grown[1].New = true
	step := StepUp{Action: "rotate the production key", App: cliApp, From: "the command line on dana-laptop", Reasons: []string{"Rotating keys needs a passkey used in the last 5 minutes. Yours was used 3 hours ago."}, Lasts: 5 * time.Minute, Ceremony: create, Cancel: &form, Switch: &form, Deadline: soon}
	state := func(s StepUpState) StepUp { x := step; x.State = s; return x }
	wrong, impossible, noAdd := state(StepUpWrongUser), state(StepUpImpossible), state(StepUpImpossible)
	wrong.For = "dana@example.com"
	impossible.Missing, impossible.Add = "a hardware-backed passkey", &add
	noAdd.Missing, noAdd.Help, noAdd.Ref = "a hardware-backed passkey", "Write to security@example.com.", "7F3A9C"
	twice := step
	twice.Lasts, twice.Reasons = 0, []string{"Rotating keys needs a passkey used in the last 5 minutes.", "This is the first time you do this from this network."}
	enrol := EnrolPasskey{Account: "dana@example.com", Name: Input{Value: "Firefox on Linux"}, Ceremony: create, Setup: true, Deadline: soon}
	second, secondSynced, another := enrol, enrol, enrol
	second.Reason, second.Made, second.Later = EnrolSecond, &laptop, &form
	secondSynced.Reason, secondSynced.Made, secondSynced.Later = EnrolSecond, &phone, &form
	another.Reason, another.Setup, another.Back = EnrolAnother, false, PathPasskeys
	link := func(k LinkKind, s LinkState) LinkProblem {
		return LinkProblem{Kind: k, State: s, At: ago(20 * time.Minute), Ref: "7F3A9C"}
	}
	invited := link(InviteLink, LinkExpired)
	invited.By = "Dana Okafor"
	bare := link(SetupLink, LinkUsed)
	bare.At, bare.Ref = time.Time{}, ""
	invite := Invitation{By: "Dana Okafor", ByAccount: "dana@example.com", Into: "Example Ltd", Role: "administrator", Name: Input{Value: "Sam Lindqvist"}, Username: Input{Value: "sam@example.com"}, Passkey: Input{Value: "Safari on macOS"}, ExpiresAt: in(2 * day), Ceremony: create}
	inviteTaken, inviteSigned := invite, invite
	inviteTaken.Role, inviteTaken.Username = "", Input{Value: "dana@example.com", Error: "Somebody here already has this username. Choose another."}
	inviteSigned.SignedIn = &form
	consent := Consent{App: webApp, Resource: "Sample notes API", ResourceURL: "https://notes.example.com", Permissions: perms, Lasts: "until you end it, at most 30 days", Form: form, Switch: &form, Deadline: soon}
	odd, same, more, none := consent, consent, consent, consent
	odd.App = oddApp
	same.App, same.ApprovedAt = cliApp, time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	more.Permissions = grown
	pinned, elsewhere, changed, selfMade := same, consent, consent, same
	pinned.App = App{Name: "Example editor", Trust: VerifiedDomain, Domain: "editor.example.com", Pinned: true, Local: true}
	elsewhere.App.Return = "callbacks.example.org"
	changed.Changed, changed.Permissions = true, renewed(perms)
	selfMade.App = App{Name: "Inspector", Trust: Unverified, Local: true, Loopback: true}
	none.Permissions, none.Resource, none.ResourceURL = nil, "", ""
	signIn := SignIn{Ceremony: create, Help: "Write to it@example.com."}
	forApp, locked, again := signIn, signIn, signIn
	forApp.App, forApp.LastUsed, forApp.Cancel, forApp.Username = &cliApp, true, &form, "dana@example.com"
	locked.Until = in(27 * time.Minute)
	again.Why, again.App = "Your session ended at 14:02. You'll come back to where you were.", &webApp
	forOdd := forApp
	forOdd.App = &oddApp
	forOdd.Typed = &Typed{Form: form}
	typed, typedWrong, typedLocked, typedOff := forApp, signIn, signIn, signIn
	typed.Typed = &Typed{Form: form, Username: Input{Value: "dana@example.com"}}
	typedWrong.Typed = &Typed{Form: form, Username: Input{Value: "dana@example.com"}, Wrong: "That user name and password don't belong together.", Left: 1}
	typedLocked.Typed, typedLocked.Until = &Typed{Form: form}, in(14*time.Minute)
	typedOff.Typed, typedOff.Off = &Typed{Form: form}, true
	code := Code{Form: form, Account: "dana@example.com", Other: PathSignIn, Deadline: soon}
	codeWrong, codeLocked, codeOff := code, code, code
	codeWrong.Wrong, codeWrong.Left = "Wrong code.", 3
	codeLocked.Until, codeOff.Off = in(14*time.Minute), true
	choose := NewPassword{Form: form, Account: "dana@example.com", Least: 8, Setup: true, Back: "/setup/passkey", Deadline: soon}
	chooseWrong, join, joinWrong, change := choose, choose, choose, choose
	chooseWrong.Password.Error = "That password is easy to guess: it is made of common words, names and digits only."
	join.Setup, join.Joining, join.Name, join.Username = false, true, Input{Value: "Sam Lindqvist"}, Input{Value: "sam@example.com"}
	joinWrong.Setup, joinWrong.Joining, joinWrong.Name, joinWrong.Username = false, true, Input{Error: "Write a name."}, Input{Value: "dana", Error: "That user name is taken. Choose another one."}
	joinWrong.Password = chooseWrong.Password
	change.Setup, change.Replaces, change.Least, change.Back = false, true, 15, PathPasskeys
	app := NewApp{Form: form, Account: "dana@example.com", Path: "M4 4h7v1h-7zM13 4h3v1h-3zM18 4h7v1h-7zM4 6h1v1h-1zM9 9h8v1h-8z", Width: 29, Secret: "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ", Setup: true, Deadline: soon}
	appWrong, appMore, appWhy := app, app, app
	appWrong.Code.Error = "Wrong code."
	appMore.Setup, appMore.Named, appMore.Name, appMore.Back = false, true, Input{Value: "Authenticator app"}, PathPasskeys
	appWhy.Setup, appWhy.Why = false, "Your password is right. Here it takes a second factor too: an app that shows a new code every 30 seconds."
	enrolTyped := enrol
	enrolTyped.Typed = "/setup/password?tx=1"
	inviteTyped := invite
	inviteTyped.Typed = "/invite/password?tx=1"
	stepTyped, stepBoth, stepLocked, stepCounts := step, step, step, impossible
	stepTyped.Ceremony, stepTyped.Typed = Ceremony{}, &Typed{Form: form, Code: true, Wrong: "The password or the code is wrong.", Left: 4}
	stepBoth.Typed = &Typed{Form: form, Code: true}
	stepLocked.Ceremony, stepLocked.Typed, stepLocked.Until = Ceremony{}, &Typed{Form: form, Code: true}, in(14*time.Minute)
	stepCounts.Counts = in(23 * time.Hour)
	methods := []Method{
		{Name: "Password", AddedAt: ago(40 * day), LastUsedAt: ago(time.Hour), Here: true, ChangeURL: "/account/password", RemoveURL: "/account/passkeys/remove?id=cred_7"},
		{Name: "Tablet", App: true, AddedAt: ago(2 * day), Rename: form, RemoveURL: "/account/passkeys/remove?id=cred_8"},
	}
	probation := phone
	probation.Counts = in(23 * time.Hour)
	t := tree()

	list := []testCase{
		{"signin-typed", out(), typed},
		{"signin-typed-wrong", out(), typedWrong},
		{"signin-typed-locked", out(), typedLocked},
		{"signin-typed-off", out(), typedOff},
		{"code", out(), code},
		{"code-wrong", out(), codeWrong},
		{"code-locked", out(), codeLocked},
		{"code-off", out(), codeOff},
		{"password-setup", out(), choose},
		{"password-setup-wrong", out(), chooseWrong},
		{"password-join", out(), join},
		{"password-join-wrong", out(), joinWrong},
		{"password-change", dana(""), change},
		{"app-setup", out(), app},
		{"app-setup-wrong", out(), appWrong},
		{"app-add", dana(""), appMore},
		{"app-first", out(), appWhy},
		{"setup-2-passkey-or-typed", out(), enrolTyped},
		{"setup-4-done-typed", dana(""), SetupDone{Name: "Dana", Next: Link{"Open my account", PathHome}}},
		{"invitation-or-typed", out(), inviteTyped},
		{"stepup-typed", sam(""), stepTyped},
		{"stepup-both", sam(""), stepBoth},
		{"stepup-typed-locked", sam(""), stepLocked},
		{"stepup-impossible-probation", sam(""), stepCounts},
		{"passkeys-typed-only", sam(PathPasskeys), Passkeys{AddURL: "/account/passkeys/add", Methods: methods, AddApp: "/account/app"}},
		{"passkeys-and-typed", dana(PathPasskeys), Passkeys{Items: []Passkey{laptop, probation}, AddURL: "/account/passkeys/add", Methods: methods[:1], AddApp: "/account/app"}},
		{"passkeys-typed-off", dana(PathPasskeys), Passkeys{Items: []Passkey{laptop, phone}, AddURL: "/account/passkeys/add", TypedOff: true}},
		{"app-remove", dana(PathPasskeys), RemovePasskey{Passkey: Passkey{Name: "Tablet"}, Other: "authenticator app", Ends: []string{"1 session"}, Form: form, Back: PathPasskeys}},
		{"app-remove-only", dana(PathPasskeys), RemovePasskey{Passkey: Passkey{Name: "Tablet"}, Other: "authenticator app", Only: true, AddURL: "/account/passkeys/add", Back: PathPasskeys}},
		{"passkey-remove-weakens", dana(PathPasskeys), RemovePasskey{Passkey: laptop, Weakens: true, Form: form, Back: PathPasskeys}},
		{"open-setup", out(), OpenLink{Kind: SetupLink, PostURL: "/setup/open"}},
		{"open-invite", out(), OpenLink{Kind: InviteLink, PostURL: "/invite/open"}},
		{"setup-expired", out(), link(SetupLink, LinkExpired)},
		{"setup-used", out(), bare},
		{"setup-unknown", out(), link(SetupLink, LinkUnknown)},
		{"setup-withdrawn", out(), link(SetupLink, LinkWithdrawn)},
		{"invite-expired", out(), invited},
		{"invite-used", out(), link(InviteLink, LinkUsed)},
		{"invite-unknown", out(), link(InviteLink, LinkUnknown)},
		{"invite-withdrawn", out(), link(InviteLink, LinkWithdrawn)},
		{"setup-closed", out(), SetupClosed{By: "Dana Okafor", At: ago(20 * day)}},
		{"setup-1-name", out(), SetupName{Form: form, Deadline: soon}},
		{"setup-1-wrong", out(), SetupName{Form: form, Name: Input{Error: "Write the name that others here should see."}, Username: Input{Value: "da na", Error: "Leave out the space."}}},
		{"setup-2-passkey", out(), enrol},
		{"setup-2-failed", with(out(), Notice{Failed, "The passkey wasn't saved.", "Its signature didn't match this request. Press the button to make it again.", "7F3A9C"}), enrol},
		{"setup-3-second", dana(""), second},
		{"setup-3-second-synced", dana(""), secondSynced},
		{"setup-4-done", dana(""), SetupDone{Name: "Dana", Passkeys: 1, Commands: []Command{{"Sign this computer's terminal in", "countersign login https://auth.example.com"}, {"Try the sample API", "countersign call GET http://localhost:8090/notes"}}, Next: Link{"Open my account", PathHome}}},
		{"setup-4-done-two", dana(""), SetupDone{Name: "Dana", Passkeys: 2, Next: Link{"Open my account", PathHome}}},
		{"passkey-add", dana(PathPasskeys), another},
		{"invitation", out(), invite},
		{"invitation-taken", out(), inviteTaken},
		{"invitation-signed-in", dana(""), inviteSigned},
		{"signin", out(), signIn},
		{"signin-app", out(), forApp},
		{"signin-app-unverified", out(), forOdd},
		{"signin-locked", out(), locked},
		{"signin-again", out(), again},
		{"signin-cancelled", with(out(), Notice{Plain, "Nothing happened – the passkey prompt was closed.", "", ""}), signIn},
		{"signin-failed", with(out(), Notice{Failed, "That passkey isn't known here.", "It may have been removed. Choose another one.", "7F3A9C"}), signIn},
		{"stepup", sam(""), step},
		{"stepup-twice", sam(""), twice},
		{"stepup-completed", sam(""), state(StepUpCompleted)},
		{"stepup-expired", sam(""), state(StepUpExpired)},
		{"stepup-wrong-user", sam(""), wrong},
		{"stepup-impossible", sam(""), impossible},
		{"stepup-impossible-admin", sam(""), noAdd},
		{"consent", dana(""), consent},
		{"consent-unverified", dana(""), odd},
		{"consent-again", dana(""), same},
		{"consent-more", dana(""), more},
		{"consent-identity", dana(""), none},
		{"consent-pinned", dana(""), pinned},
		{"consent-elsewhere", dana(""), elsewhere},
		{"consent-changed", dana(""), changed},
		{"consent-registered-again", dana(""), selfMade},
		{"consent-details", dana(""), Consent{App: webApp, Resource: "Payments", ResourceURL: "https://pay.example.net", Lasts: "until you end it, at most 30 days", Form: form, Details: []Detail{
			{
				Resource: "Payments", Said: []Said{{"Pay ", false}, {"120.00", true}, {" ", false}, {"EUR", true}, {" to ", false}, {"Kirchhoff & Söhne, Zweigniederlassung für grenzüberschreitenden Handel", true}},
				Fields: []Field{{"amount.currency", "EUR"}, {"amount.value", "120.00"}, {"payee", "Kirchhoff & Söhne, Zweigniederlassung für grenzüberschreitenden Handel"}},
			},
			{Resource: "Payments", Said: []Said{{"Read the balance of ", false}, {"account \u202e4321", true}}, Fields: []Field{{"account", "account \u202e4321"}}},
		}}},
		{"form-post", out(), FormPost{Form: Form{Action: "https://board.example.net/cb?tenant=a", Hidden: []Field{{"code", "cs_code_4fJ"}, {"state", "x"}}}, To: "board.example.net"}},
		{"done", out(), Done{Headline: "You're signed out", Text: "The session in this browser has ended, and 2 apps with it.", Next: &Link{"Sign in again", PathSignIn}}},
		{"done-denied", dana(""), Done{Headline: "You said no", Text: "“Release board” got no access. You can close this page.", Commands: []Command{{"To ask again", "countersign login"}}}},
		{"signout", dana(""), SignOut{Here: form, HereEnds: "2 apps", Everything: form, Counts: []string{"3 sessions", "5 apps"}, Back: PathHome}},
		{"signout-app", dana(""), LeaveApp{App: "Release board", Back: "board.example.net", Ends: "2 apps", Form: form, Stay: PathHome}},
		{"signout-app-unknown", dana(""), LeaveApp{Form: form, Stay: PathHome}},
		{"signed-out-app", out(), Done{Headline: "You're signed out", Text: "Nobody is signed in here in this browser. You can close this tab.", Next: &Link{"Back to Release board", "https://board.example.net/bye"}}},
		{"signout-little", dana(""), SignOut{Here: form, Everything: form, Back: PathHome}},
		{"overview", dana(PathHome), Overview{Passkeys: 1, Sessions: 3, Apps: 3, Todo: []Todo{
			{Text: "Add a second passkey", Why: "If this one is lost, you can't sign in any more.", Takes: "about 30 seconds", Action: Link{"Add a passkey", "/account/passkeys/add"}},
			{Text: "Invite a second administrator", Why: "You're the only one who can let others back in.", Takes: "about 1 minute", Action: Link{"Invite somebody", "/admin/people/invite"}},
			{Text: "Create your passkey", Done: true},
		}, Unusual: []Event{{At: ago(50 * time.Minute), Text: "Somebody signed in to your account from a network that you never used before.", Network: "203.0.113.40 – Mobile Example", Assurance: "passkey, synced", NotMe: &form, WasMe: &form}}}},
		{"overview-good", sam(PathHome), Overview{Passkeys: 2, Sessions: 1}},
		{"overview-exceptions", sam(PathHome), Overview{Passkeys: 2, Sessions: 1, Exceptions: []Exception{
			{Rule: "Much here is unusual. This needs a phishing-resistant sign-in from the last 15 minutes.", Instead: "a two-factor sign-in from the last hour", Why: "Your key was lost on a journey; the new one comes on Friday.", Owner: "security", Until: ago(-72 * time.Hour)},
			{Rule: "Changing the deployment needs an administrator's phishing-resistant sign-in from the last 15 minutes.", Instead: "a phishing-resistant sign-in from the last 2 hours", Group: "on call", Why: "The night shift works from the emergency room.", Owner: "Operations", Until: ago(-20 * 24 * time.Hour)},
		}}},
		{"passkeys", dana(PathPasskeys), Passkeys{Items: []Passkey{laptop, phone, hardKey}, AddURL: "/account/passkeys/add", Signal: &Signal{RPID: "auth.example.com", UserID: "AAAA", Name: "dana@example.com", DisplayName: "Dana Okafor", Credentials: []string{"AQ", "Ag"}}}},
		{"passkeys-one", with(sam(PathPasskeys), Notice{Good, "Passkey removed.", "It doesn't work here any more.", ""}), Passkeys{Items: []Passkey{laptop}, AddURL: "/account/passkeys/add"}},
		{"passkeys-rename-wrong", dana(PathPasskeys), Passkeys{Items: []Passkey{unnamed, phone}, AddURL: "/account/passkeys/add"}},
		{"passkeys-none", dana(PathPasskeys), Passkeys{AddURL: "/account/passkeys/add"}},
		{"passkey-remove", dana(PathPasskeys), RemovePasskey{Passkey: phone, Ends: []string{"1 session", "2 apps"}, Form: form, Back: PathPasskeys}},
		{"passkey-remove-only", dana(PathPasskeys), RemovePasskey{Passkey: laptop, Only: true, AddURL: "/account/passkeys/add", Back: PathPasskeys}},
		{"sessions", dana(PathSessions), Sessions{Root: t}},
		{"sessions-none", dana(PathSessions), Sessions{Root: Node{Name: "Dana Okafor"}}},
		{"end-device", dana(PathSessions), EndNode{Node: t.Children[0], Form: form, Back: PathSessions}},
		{"end-session-here", dana(PathSessions), EndNode{Node: t.Children[0].Children[0], Form: form, Back: PathSessions}},
		{"end-grant", dana(PathSessions), EndNode{Node: t.Children[0].Children[1].Children[0], Form: form, Back: PathSessions}},
		{"end-person", dana(PathSessions), EndNode{Node: t, Form: form, Back: PathSessions}},
		{"end-gone", dana(PathSessions), EndNode{Node: t.Children[1].Children[0], Gone: true, At: ago(30 * time.Second), Back: PathSessions}},
		{"end-gone-unknown", dana(PathSessions), EndNode{Node: t.Children[1].Children[0], Gone: true, Back: PathSessions}},
		{"activity", dana(PathActivity), Activity{Events: []Event{
			{At: ago(4 * time.Minute), Text: "You confirmed it's you to rotate keys.", App: "Countersign command line", Assurance: "passkey, used just now", Network: "198.51.100.7 – Example Net", Ref: "7F3A9C"},
			{At: ago(26 * time.Hour), Text: "You signed the command line in on dana-laptop.", App: "Countersign command line", Assurance: "passkey, verified", Network: "198.51.100.7 – Example Net", Ref: "51D0B2"},
			{At: ago(40 * day), Text: "You created the passkey “Dana's laptop”.", Ref: "0A11CE"},
		}, Older: "/account/activity?before=1", Newer: "/account/activity"}},
		{"activity-empty", sam(PathActivity), Activity{}},
		{"activity-past-end", sam(PathActivity), Activity{Newer: PathActivity}},
		{"email-none", dana(PathEmail), Email{Mails: true, Form: form, Send: form}},
		{"email-unproved", with(sam(PathEmail), Notice{Good, "A link is on its way.", "Open it within a day.", ""}), Email{Mails: true, Current: "sam@example.com", Address: Input{Value: "sam@example.com"}, Form: form, Send: form}},
		{"email-proved", dana(PathEmail), Email{Mails: true, Current: "dana@example.com", Proved: true, Address: Input{Value: "dana@example.com"}, Form: form, Send: form}},
		{"email-wrong", dana(PathEmail), Email{Mails: true, Address: Input{Value: "dana@", Error: "That is not an e-mail address."}, Form: form, Send: form}},
		{"email-no-mail", dana(PathEmail), Email{Current: "dana@example.com", Address: Input{Value: "dana@example.com"}, Form: form, Send: form}},
		{"email-prove", out(), EmailProve{Address: "a.very.long.address.of.somebody@a-rather-long-department.example.com", Form: form}},
		{"email-link-used", out(), link(EmailLink, LinkUsed)},
		{"people", dana(PathPeople), People{InviteURL: "/admin/people/invite", Items: []Person{
			{Name: "Dana Okafor", Username: "dana@example.com", Role: "Administrator", Passkeys: 2, LastSeenAt: ago(time.Minute), You: true, DevicesURL: "/p/0/d"},
			{Name: "Sam Lindqvist", Username: "sam@example.com", Passkeys: 1, LastSeenAt: ago(3 * day), ActURL: "/p/1", DevicesURL: "/p/1/d"},
			{Name: "Mira Tanaka", Username: "mira@example.com", State: Invited, ExpiresAt: in(2 * day), ActURL: "/p/2"},
			{Name: "Old Account", Username: "old@example.com", State: Disabled, Passkeys: 1, LastSeenAt: ago(90 * day), ActURL: "/p/3", DevicesURL: "/p/3/d"},
		}, Older: "/admin/people?after=1"}},
		{"devices", with(dana(PathPeople), Notice{Good, "Marked.", "It counts as a managed device from now on.", ""}), Devices{Whose: "Sam Lindqvist", Asked: true, Items: []Device{ours, theirs}, Back: PathPeople}},
		{"devices-none", dana(PathPeople), Devices{Whose: "Mira Tanaka", Back: PathPeople}},
		{"device-mark", dana(PathPeople), DeviceMark{Whose: "Sam Lindqvist", Device: theirs, Manage: form, Days: 90, Back: PathPeople}},
		{"device-marked", dana(PathPeople), DeviceMark{Whose: "Sam Lindqvist", Device: ours, Manage: form, Days: 90, Asset: Input{Value: "LT-0042"}, Unmanage: &form, Back: PathPeople}},
		{"device-mark-wrong", dana(PathPeople), DeviceMark{Whose: "Sam Lindqvist", Device: theirs, Manage: form, Days: 365, Asset: Input{Value: "\t", Error: "What the inventory calls a device has at most 64 bytes, all of them printable."}, Back: PathPeople}},
		{"people-none", dana(PathPeople), People{InviteURL: "/admin/people/invite"}},
		{"invite", dana(PathPeople), Invite{Form: form, Lasts: 72 * time.Hour, Back: PathPeople}},
		{"invite-wrong", dana(PathPeople), Invite{Form: form, Name: Input{Error: "Write a name."}, Email: Input{Value: "mira@", Error: "This isn't a whole e-mail address."}, Admin: true, Lasts: 72 * time.Hour, Back: PathPeople}},
		{"invite-made", dana(PathPeople), InviteMade{For: "Mira Tanaka", Link: "https://auth.example.com/invite#cs_invite_4fJ0aZk81LmNq2RsTuVwXyZ0123456789abcdefghijk", ExpiresAt: in(72 * time.Hour), Back: PathPeople}},
		{"person-disable", dana(PathPeople), PersonChange{Person: Person{Name: "Sam Lindqvist"}, Ends: "2 sessions and 3 apps", Marks: "countersign person device marked --by usr_01J9Z3KQ4X8M2N6P7R5T9V1W3Y", Form: form, Back: PathPeople}},
		{"person-withdraw", dana(PathPeople), PersonChange{Person: Person{Name: "Mira Tanaka", State: Invited}, Form: form, Back: PathPeople}},
		{"person-enable", dana(PathPeople), PersonChange{Person: Person{Name: "Old Account", State: Disabled}, Form: form, Reason: Input{Error: "Write why, in a few words."}, Back: PathPeople}},
		{"person-last", dana(PathPeople), PersonChange{Person: Person{Name: "Dana Okafor"}, Last: true, Back: PathPeople}},
		{"kinds", with(dana(PathPeople), Notice{Good, "Switched off.", "Nobody signs in with it from now on.", ""}), Kinds{Items: []FactorKind{
			{Name: "Passkeys and security keys", Note: "The strongest, and always allowed.", On: true},
			{Name: "Passwords", Note: "With a code from an app, they do where no phishing-resistant sign-in is asked for. They work without JavaScript.", On: true, ChangeURL: "/k/1"},
			{Name: "Authenticator apps", Note: "They show the code that goes with a password. Neither is of use without the other.", ChangeURL: "/k/2"},
		}}},
		{"kind-off", dana(PathPeople), KindChange{Name: "passwords", On: true, Form: form, Back: PathKinds}},
		{"kind-on", dana(PathPeople), KindChange{Name: "authenticator apps", Form: form, Back: PathKinds}},
		{"exceptions-none", dana(PathExceptions), Exceptions{}},
		{"exceptions", dana(PathExceptions), Exceptions{
			Version: 7, By: "Dana Okafor", PublishedAt: ago(20 * day), InForce: []WaivedRule{
				{ID: "journey", Whom: "Sam Lindqvist", Kind: "person", RuleID: "risk.high", Rule: "Much here is unusual. This needs a phishing-resistant sign-in from the last 15 minutes.", Instead: "a two-factor sign-in from the last hour", Why: "The key was lost on a journey; the new one comes on Friday.", Owner: "security", Until: in(2 * day), State: WaivedSoon},
				{ID: "night-shift", Whom: "on call", Kind: "group", RuleID: "admin.write", Rule: "Changing the deployment needs an administrator's phishing-resistant sign-in from the last 15 minutes.", Instead: "a phishing-resistant sign-in from the last 2 hours", Why: "The night shift works from the emergency room.", Owner: "Operations", Until: in(40 * day)},
				{ID: "importer", Whom: "svc_01J9Z3KQ4X8M2N6P7R5T9V1W3Y", Kind: "service", Gone: true, RuleID: "signal.service", Rule: "A service reports what is suspicious with a token that is bound to its key.", Instead: "one factor", Why: "Until the importer can hold a key.", Owner: "data", Until: in(60 * day)},
			}, Ended: []WaivedRule{
				{ID: "audit-week", Whom: "an erased person", Kind: "person", Gone: true, RuleID: "policy.publish", Rule: "Publishing policies needs an administrator's phishing-resistant sign-in from the last 5 minutes.", Instead: "a phishing-resistant sign-in from the last hour", Why: "The week of the audit.", Owner: "security", Until: ago(9 * day), State: WaivedOver},
			},
			Rollout: &RolloutExceptions{Number: 3, For: "pilots, platform-engineers-of-a-long-name", PageURL: "/admin/rollout?n=3"},
		}},
		{"exceptions-rollout", dana(PathExceptions), Exceptions{Version: 7, PublishedAt: ago(day), Rollout: &RolloutExceptions{Number: 4, PageURL: "/admin/rollout?n=4", Items: []WaivedRule{
			{ID: "an-exception-with-an-id-that-is-as-long-as-ids-of-exceptions-are", Whom: "everybody-on-call-in-all-regions-of-the-world", Kind: "group", RuleID: "an-id-of-a-policy-that-is-as-long-as-ids-of-policies-can-be-at-m", Rule: "Much here is unusual.", Instead: "a two-factor sign-in from the last hour", Why: "Keys come late.", Owner: "security", Until: in(30 * day), State: WaivedLater},
		}}}},
		{"exceptions-broken", dana(PathExceptions), Exceptions{Version: 7, PublishedAt: ago(day), Rollout: &RolloutExceptions{Number: 4, For: "pilots", Broken: true, PageURL: "/admin/rollout?n=4"}}},
		{"policies-default", dana(PathPolicies), Policies{InForce: true, Hash: "sha256:pcdtY5we-OFmEa0dUFxGLYzEaTAlm1r5YPfffnBLd14", Watched: &Watched{}, Files: []PolicyFile{
			{Name: "30-account.cedar", Rules: []PolicyRule{{ID: "self", Text: "Anybody signed in may read what is theirs."}}},
			{Name: "host.cedar", Host: true, Rules: []PolicyRule{{ID: "host.recover", Text: "Root on the host may let somebody in again."}}},
		}}},
		{"policies", dana(PathPolicies), Policies{
			Version: 7, InForce: true, Hash: "sha256:pcdtY5we-OFmEa0dUFxGLYzEaTAlm1r5YPfffnBLd14", By: "Dana Okafor", PublishedAt: ago(20 * day), Note: "deploys need a passkey", Restores: "version 5",
			Due: []PolicyRule{
				{ID: "an-id-of-a-policy-that-is-as-long-as-ids-of-policies-can-be-at-m", Text: "Contractors are let in from the trusted networks only.", Owner: "the-team-that-looks-after-contractors@example.com", Review: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), Due: RuleOverdue},
				{ID: "deploy.nights", Text: "At night nobody deploys.", Owner: "release", Review: time.Date(2026, 12, 9, 0, 0, 0, 0, time.UTC), Due: RuleSoon, Monitor: true},
			}, Files: []PolicyFile{
				{Name: "10-contractors.cedar", Rules: []PolicyRule{{ID: "an-id-of-a-policy-that-is-as-long-as-ids-of-policies-can-be-at-m", Text: "Contractors are let in from the trusted networks only.", Owner: "the-team-that-looks-after-contractors@example.com", Review: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), Due: RuleOverdue}}},
				{Name: "20-deploy.cedar", Rules: []PolicyRule{
					{ID: "deploy.nights", Text: "At night nobody deploys.", Owner: "release", Review: time.Date(2026, 12, 9, 0, 0, 0, 0, time.UTC), Due: RuleSoon, Monitor: true},
					{ID: "deploy.passkey", Text: "A deploy needs a passkey of now.", Owner: "release", Review: time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)},
				}},
			}, Watched: &Watched{Looked: 20000, Since: ago(3 * day), Part: true, Rules: []WatchedRule{
				{
					ID: "deploy.nights", Text: "At night nobody deploys.", Denied: 31, Prompted: 2, People: 4, PerDay: 2.4, PerDayMax: 9, LastAt: ago(time.Hour), LastURL: "/admin/audit?before=rec_1~",
					Whom: []WatchedWho{{Name: "Sam Lindqvist", Day: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), Times: 9}, {Name: "an erased person", Day: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Times: 1}},
				},
				{ID: "deploy.before", Gone: true, Allowed: 1, People: 1, LastAt: ago(2 * day), LastURL: "/admin/audit?before=rec_2~"},
				{ID: "moon", Text: "Nobody acts from the moon."},
			}}, Past: []PastPolicies{
				{Version: 7, By: "Dana Okafor", Note: "deploys need a passkey", PublishedAt: ago(20 * day), Restores: "version 5", InForce: true, Shown: true, URL: "/p/7"},
				{Version: 6, PublishedAt: ago(21 * day), Restores: "the default set", URL: "/p/6"},
			}, Older: "/admin/policies?before=6", DefaultURL: "/admin/policies?n=0",
		}},
		{"policies-broken", dana(PathPolicies), Policies{Version: 3, Hash: "sha256:pcdtY5we-OFmEa0dUFxGLYzEaTAlm1r5YPfffnBLd14", PublishedAt: ago(90 * day), Broken: true, Past: []PastPolicies{
			{Version: 4, By: "Dana Okafor", PublishedAt: ago(20 * day), InForce: true, URL: "/p/4"}, {Version: 3, PublishedAt: ago(90 * day), Shown: true, URL: "/p/3"},
		}}},
		{"rollout-none", dana(PathRollout), Rollout{None: true}},
		{"rollout", with(dana(PathRollout), Notice{Good, "Resumed.", "The new policies decide for that wave again, once its time has come.", ""}), Rollout{
			Number: 3, Note: "deploys need a passkey", StartedAt: ago(2 * day), UndoURL: "/r/1", Looked: 42, NotReady: 2, MoreURL: "/admin/rollout?after=1", Waves: []Wave{
				{Number: 1, Who: "pilots, platform-engineers-of-a-long-name", From: ago(2 * day), State: WaveEnforced, Prompts: Spent{Met: 31, Most: 40}, Denials: Spent{Met: 0, Most: 2}, PauseURL: "/r/2", UndoURL: "/r/3", Costs: []Cost{
					{Rule: "deploy.passkey", Person: "Sam Lindqvist", Prompts: 30}, {Rule: "deploy.passkey", Person: "Somebody who was erased", Prompts: 1},
				}},
				{Number: 2, Who: "staff", From: ago(day), State: WaveReverted, Prompts: Spent{Met: 401, Most: 400}, Denials: Spent{Met: 3, Most: 5}, ResumeURL: "/r/4"},
				{Number: 3, Who: "support", From: ago(time.Hour), State: WaveBehind, Prompts: Spent{Most: 90}, Denials: Spent{Most: 2}, PauseURL: "/r/5", UndoURL: "/r/6"},
				{Number: 4, Who: "everybody else", From: in(3 * day), Prompts: Spent{Most: 900}, Denials: Spent{Most: 20}, PauseURL: "/r/7", UndoURL: "/r/8"},
			}, Unready: []Unready{{Name: "Mira Tanaka", Wave: 2, Rule: "deploy.passkey", Needs: "a phishing-resistant sign-in from the last 15 minutes"}, {Name: hostile, Wave: 4, Rule: "contractors.never"}}, Part: true, Past: []PastRollout{
				{Number: 3, By: "Dana Okafor", Note: "deploys need a passkey", StartedAt: ago(2 * day), Shown: true, URL: "/r/10"},
				{Number: 2, By: "Sam Lindqvist", StartedAt: ago(9 * day), EndedAt: ago(5 * day), How: "In force as version 7", URL: "/r/11"},
				{Number: 1, By: "an erased person", Note: "the first try, which asked everybody in support four times a day", StartedAt: ago(30 * day), EndedAt: ago(29 * day), How: "Taken back", URL: "/r/12"},
			}, Older: "/admin/rollout?before=1",
		}},
		{"rollout-over", dana(PathRollout), Rollout{Number: 2, Ended: "It is finished, and in force for everybody as version 7.", StartedAt: ago(9 * day), Past: []PastRollout{
			{Number: 3, By: "Dana Okafor", StartedAt: ago(2 * day), URL: "/r/10"}, {Number: 2, By: "Sam Lindqvist", StartedAt: ago(9 * day), EndedAt: ago(5 * day), How: "In force as version 7", Shown: true, URL: "/r/11"},
		}, Newer: "/admin/rollout", Waves: []Wave{
			{Number: 1, Who: "everybody else", From: ago(9 * day), State: WaveEnforced, Prompts: Spent{Most: 5, Over: true}, Denials: Spent{Most: 2, Over: true}},
		}}},
		{"rollout-broken", dana(PathRollout), Rollout{Number: 4, StartedAt: ago(day), Broken: true, UndoURL: "/r/1", FinishURL: "/r/2", Waves: []Wave{
			{Number: 1, Who: "pilots", From: ago(day), State: WavePaused, Prompts: Spent{Most: 5}, Denials: Spent{Most: 2}, ResumeURL: "/r/3"},
			{Number: 2, Who: "everybody else", From: ago(day), State: WaveUndone, Prompts: Spent{Most: 5}, Denials: Spent{Most: 2}, ResumeURL: "/r/4"},
		}}},
		{"rollout-ready", dana(PathRollout), Rollout{Number: 5, StartedAt: ago(day), UndoURL: "/r/1", Looked: 1, Waves: []Wave{
			{Number: 1, Who: "everybody else", From: ago(day), State: WaveEnforced, Prompts: Spent{Most: 5}, Denials: Spent{Most: 2}, PauseURL: "/r/3", UndoURL: "/r/4"},
		}}},
		{"rollout-pause", dana(PathRollout), RolloutChange{Verb: "pause", Wave: 1, Who: "pilots", Form: form, Back: PathRollout}},
		{"rollout-resume", dana(PathRollout), RolloutChange{Verb: "resume", Wave: 2, Who: "staff", Wrong: true, Form: form, Back: PathRollout}},
		{"rollout-undo", dana(PathRollout), RolloutChange{Verb: "undo", Form: form, Back: PathRollout}},
		{"rollout-finish", dana(PathRollout), RolloutChange{Verb: "finish", Form: form, Back: PathRollout}},
		{"notices", dana(PathNotices), Notices{Mails: true, Reached: 2, AddURL: "/n/1", Stands: []Alert{
			{Title: "The disk is nearly full", Severity: "critical", Detail: "less than 256 MiB are free", Next: "Make room: when it is full no tokens are issued.", At: ago(40 * time.Minute), Ref: "rec_01K9Y7C3ZQ4T"},
		}, Recent: []Alert{
			{Title: "A refresh token was used twice", Severity: "warning", Detail: "An old refresh token was used again by Release board, so what it belonged to was ended for Sam Lindqvist.", Next: "A copy of the token exists, or the client stores it wrongly.", At: ago(3 * time.Hour), Ref: "rec_01K9Y7C2AA0B"},
			{Title: "The audit log stands still", Severity: "critical", At: ago(2 * day), Over: true, Ref: "rec_01K9Y7BZZZ00"},
		}, Hooks: []Hook{
			{Name: "SIEM", URL: "https://siem.example.com/countersign", Events: []string{"factor.*", "alert.*"}, ActURL: "/n/2"},
			{Name: "Chat", URL: "https://chat.example.com/hooks/" + "0123456789abcdef0123456789abcdef", Off: true, Behind: 1204, ActURL: "/n/3"},
		}, Letters: []Letter{
			{To: "Sam Lindqvist", About: "Sam Lindqvist added passkey, Phone.", Why: "the mail relay refused it: 550 5.1.1", At: ago(5 * time.Hour), Tries: 1, Resend: form, Discard: form},
		}, More: true}},
		{"notices-none", with(dana(PathNotices), Notice{Good, "Discarded.", "", ""}), Notices{AddURL: "/n/1"}},
		{"notices-unreached", dana(PathNotices), Notices{Mails: true, AddURL: "/n/1"}},
		{"webhook-add", dana(PathNotices), HookEdit{New: true, Form: form, Back: PathNotices}},
		{"webhook-wrong", dana(PathNotices), HookEdit{New: true, Form: form, Name: Input{Value: "SIEM"}, URL: Input{Value: "http://siem", Error: "A webhook's address is an https URL without user, password and fragment."}, Events: Input{Value: "fact", Error: "No kind of event is \"fact\"."}, Back: PathNotices}},
		{"webhook-change", dana(PathNotices), HookEdit{Form: form, Name: Input{Value: "SIEM"}, URL: Input{Value: "https://siem.example.com/countersign"}, Events: Input{Value: "factor.* alert.*"}, Rotate: form, Switch: form, Remove: form, Back: PathNotices}},
		{"webhook-off", dana(PathNotices), HookEdit{Form: form, Name: Input{Value: "SIEM"}, URL: Input{Value: "https://siem.example.com/countersign"}, Off: true, Rotate: form, Switch: form, Remove: form, Back: PathNotices}},
		{"webhook-secret", dana(PathNotices), HookSecret{Name: "SIEM", Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq=", Both: day, Back: PathNotices}},
		{"audit", dana(PathAudit), AuditLog{Size: 1204, SignedAt: ago(8 * time.Second), Records: []Record{
			{Index: 1203, At: ago(time.Minute), Actor: "Countersign command line", For: "Dana Okafor", Text: "Rotated the key of Sample notes API", Outcome: "Allowed", Assurance: "phr, 1 minute old", Proofs: "passkey “Dana's laptop”", Ref: "rec_01K9Y7C3ZQ4T"},
			{Index: 1202, At: ago(2 * time.Minute), Actor: "Countersign command line", For: "Dana Okafor", Text: "Asked to rotate the key of Sample notes API", Outcome: "Asked for proof", Assurance: "phr, 3 hours old", Reason: "Needs a phishing-resistant proof not older than 5 minutes", Ref: "rec_01K9Y7C2AA0B"},
			{Index: 1201, At: ago(9 * time.Minute), Actor: "Sam Lindqvist", Text: "Tried to invite somebody", Outcome: "Denied", Refused: true, Assurance: "phr, 1 hour old", Reason: "Only administrators may invite", Ref: "rec_01K9Y7BZZZ00"},
		}, Older: "/admin/audit?before=1"}},
		{"audit-none-found", dana(PathAudit), AuditLog{Query: "mira", Size: 1204, SignedAt: ago(8 * time.Second)}},
		{"audit-empty", dana(PathAudit), AuditLog{}},
		{"audit-broken", dana(PathAudit), AuditLog{Size: 1204, SignedAt: ago(day), Broken: "Entry 871 differs from what the checkpoint of 22 November signed.", Query: "x"}},
	}
	return slices.Concat(list, recoveryCases(), reviewCases(), publicationCases(), deviceCases(), requestCases(), appsCases(), faults())
}

// evil is every page with hostile text wherever somebody else supplies it.
func evil() []testCase {
	p := out()
	p.Issuer, p.User = "auth.example.com", &User{Name: hostile, Username: hostile, Admin: true}
	p.Notice = &Notice{Plain, hostile, hostile, hostile}
	app := App{Name: hostile, Return: hostile, Domain: hostile}
	k := Passkey{Name: hostile, Model: hostile}
	bad := Form{Action: "javascript:alert(1)", Hidden: []Field{{hostile, hostile}}}
	link := Link{hostile, "javascript:alert(1)"}
	inp := Input{hostile, hostile}
	node := Node{Kind: GrantNode, Name: hostile, Resource: hostile, Scopes: []string{hostile}, Network: hostile, Assurance: hostile, EndURL: "javascript:alert(1)"}
	views := []View{
		SetupName{Form: bad, Name: inp, Username: inp},
		SetupClosed{By: hostile},
		LinkProblem{Kind: InviteLink, By: hostile, Ref: hostile},
		Email{Mails: true, Current: hostile, Address: Input{Value: hostile, Error: "x"}, Form: form, Send: form},
		EmailProve{Address: hostile, Form: form},
		Notices{Mails: true, Recent: []Alert{{Title: "x", Severity: "warning", Detail: hostile}}, Hooks: []Hook{{Name: hostile, URL: hostile, Events: []string{hostile}}}, Letters: []Letter{{To: hostile, About: hostile, Why: hostile}}},
		HookEdit{Form: form, Name: Input{Value: hostile}, URL: Input{Value: hostile}, Events: Input{Value: hostile}},
		HookSecret{Name: hostile, Secret: "whsec_x"},
		EnrolPasskey{Account: hostile, Name: inp, Made: &k, Later: &bad, Back: "javascript:alert(1)"},
		SetupDone{Name: hostile, Commands: []Command{{hostile, hostile}}, Next: link},
		Invitation{By: hostile, ByAccount: hostile, Into: hostile, Role: hostile, Name: inp, Username: inp, Passkey: inp},
		SignIn{App: &app, Username: hostile, Help: hostile, Why: hostile, Cancel: &bad},
		StepUp{Action: hostile, App: app, From: hostile, Reasons: []string{hostile}, Cancel: &bad, Switch: &bad},
		StepUp{State: StepUpWrongUser, App: app, For: hostile},
		StepUp{State: StepUpImpossible, Action: hostile, Missing: hostile, Add: &link},
		Consent{App: app, Details: []Detail{{Resource: hostile, Said: []Said{{"Pay ", false}, {hostile, true}}, Fields: []Field{{hostile, hostile}}}}, Form: bad},
		Consent{App: app, Resource: hostile, ResourceURL: hostile, Permissions: []Permission{{Text: hostile, Scope: hostile, Again: hostile}}, Lasts: hostile, Form: bad},
		DeviceCode{Form: bad, Code: inp, Linked: true},
		DeviceAsk{App: app, Code: hostile, Host: hostile, From: hostile, Here: hostile, Elsewhere: true, Typed: inp, Resource: hostile, ResourceURL: hostile, Form: bad, Switch: &bad},
		Done{Headline: hostile, Text: hostile, Next: &link},
		Apps{May: []string{hostile}, PinURL: "javascript:alert(1)", Items: []AppGroup{{Name: hostile, Domain: hostile, Print: hostile, URL: "javascript:alert(1)"}}, Rules: []AppRule{{Name: hostile, Group: hostile, ChangeURL: "javascript:alert(1)"}}, Pins: []AppPin{{Name: hostile, ClientID: hostile, ChangeURL: "javascript:alert(1)"}}},
		AppDetail{AppGroup: AppGroup{Name: hostile, Print: hostile, Changes: []Link{link}}, May: []string{hostile}, Apps: []AppRow{{Name: hostile, ClientID: hostile, To: []string{hostile}, RemoveURL: "javascript:alert(1)"}}, Uses: []AppUse{{Person: hostile, App: hostile, Permissions: []string{hostile}}}, Back: "javascript:alert(1)"},
		AppChange{Verb: hostile, What: hostile, Leads: []string{hostile}, Document: &inp, Form: bad, Back: "javascript:alert(1)"},
		FormPost{Form: Form{Action: "https://board.example.net/" + hostile, Hidden: []Field{{hostile, hostile}}}, To: hostile},
		LeaveApp{App: hostile, Back: hostile, Ends: hostile, Form: bad, Stay: "javascript:alert(1)"},
		SignOut{HereEnds: hostile, Counts: []string{hostile}, Back: "javascript:alert(1)"},
		Overview{Exceptions: []Exception{{Rule: hostile, Instead: hostile, Group: hostile, Why: hostile, Owner: hostile}}, Todo: []Todo{{Text: hostile, Why: hostile, Takes: hostile, Action: link}}, Unusual: []Event{{Text: hostile, App: hostile, Network: hostile}}},
		Passkeys{Items: []Passkey{k}, AddURL: "javascript:alert(1)", Signal: &Signal{Name: hostile}, Methods: []Method{{Name: hostile, App: true, NewName: inp, Rename: bad, RemoveURL: "javascript:alert(1)"}}},
		Code{Form: bad, Account: hostile, Wrong: hostile, Other: "javascript:alert(1)"},
		NewPassword{Form: bad, Account: hostile, Joining: true, Name: inp, Username: inp, Password: inp, Back: "javascript:alert(1)"},
		NewApp{Form: bad, Account: hostile, Secret: hostile, Name: inp, Named: true, Code: inp, Why: hostile, Back: "javascript:alert(1)"},
		SignIn{Typed: &Typed{Form: bad, Username: inp, Wrong: hostile}},
		RemovePasskey{Passkey: k, Other: hostile, Form: bad},
		RemovePasskey{Passkey: k, Form: bad},
		Sessions{Root: Node{Name: hostile, Children: []Node{node}}},
		EndNode{Node: node, Form: bad},
		People{Items: []Person{{Name: hostile, Username: hostile, Role: hostile, ActURL: "javascript:alert(1)"}}},
		Invite{Form: bad, Name: inp, Email: inp},
		InviteMade{For: hostile, Link: hostile},
		PersonChange{Person: Person{Name: hostile}, Ends: hostile, Marks: hostile, Reason: inp},
		AuditLog{Query: hostile, Broken: hostile, Records: []Record{{Actor: hostile, For: hostile, Text: hostile, Outcome: hostile, Proofs: hostile, Reason: hostile, Ref: hostile}}},
		RecoverForm{Username: inp, Code: inp, Form: bad, Back: "javascript:alert(1)"},
		RecoverStatus{State: RecoverWaiting, Account: hostile, Told: []string{hostile}, Link: hostile, Stop: bad},
		RecoverStatus{State: RecoverNotNeeded, Account: hostile},
		RecoverStatus{Paste: bad, Pasted: inp},
		RecoverCancel{Account: hostile, Form: bad},
		PasteLink{Headline: hostile, Form: bad, Link: inp},
		RecoveryCodes{Account: hostile, Codes: []string{hostile}, Next: link},
		OwnRecovery{Make: bad, Open: []OpenRecovery{{What: hostile, By: hostile, Stop: &bad}}, Past: []PastRecovery{{What: hostile, How: hostile}}},
		Exceptions{By: hostile, InForce: []WaivedRule{{ID: hostile, Whom: hostile, RuleID: hostile, Rule: hostile, Instead: hostile, Why: hostile, Owner: hostile}}, Rollout: &RolloutExceptions{For: hostile, PageURL: "javascript:alert(1)"}},
		Policies{
			Version: 1, By: hostile, Hash: hostile, Note: hostile, Restores: hostile, Due: []PolicyRule{{ID: hostile, Text: hostile, Owner: hostile}}, Files: []PolicyFile{{Name: hostile, Rules: []PolicyRule{{ID: hostile, Text: hostile, Owner: hostile}}}},
			Watched: &Watched{Since: testNow, Rules: []WatchedRule{{ID: hostile, Text: hostile, LastAt: testNow, LastURL: "javascript:alert(1)", Whom: []WatchedWho{{Name: hostile}}}}}, Past: []PastPolicies{{By: hostile, Note: hostile, Restores: hostile, URL: "javascript:alert(1)"}}, Older: "javascript:alert(1)", DefaultURL: "javascript:alert(1)",
		},
		Recoveries{Told: hostile, Items: []OpenRecovery{{Account: hostile, What: hostile, URL: "javascript:alert(1)"}}},
		OpenForm{Form: bad, Username: inp, Code: inp, Reason: inp},
		RecoveryDetail{OpenRecovery: OpenRecovery{Account: hostile, What: hostile, Reason: hostile, By: hostile}, Confirmers: []string{hostile}, Told: []string{hostile}, CancelLink: hostile, Confirm: &bad, Code: inp, Cancel: &bad},
		RecoveryDetail{Why: hostile},
		PassForm{Form: bad, Username: inp, Reason: inp},
		PassMade{For: hostile, Code: hostile, Enter: hostile, CancelLink: hostile, Told: []string{hostile}},
		Fault{State: hostile, Headline: hostile, Detail: hostile, Next: hostile, Supplied: hostile, Actions: []Link{link}, Why: []Why{{hostile, hostile, hostile}}},
		Reviews{Items: []ReviewRow{{Who: hostile, What: hostile, App: hostile, Risk: hostile, URL: "javascript:alert(1)"}}, States: []Choice{{hostile, "javascript:alert(1)", true}, {hostile, "javascript:alert(1)", false}}},
		ReviewDetail{
			ReviewRow: ReviewRow{Who: hostile, What: hostile, App: hostile, Risk: hostile}, Ref: hostile, Proved: hostile, Network: hostile, Device: hostile, Links: []Link{link}, Why: []Why{{hostile, hostile, hostile}},
			Terms: []Term{{1, hostile, hostile}}, Around: []Record{{Text: hostile, Outcome: hostile}}, By: hostile, Note: hostile, Allow: &bad, End: &bad, Suspend: &bad, Close: &bad, Reason: inp,
		},
		ReviewDetail{Not: hostile},
		ReviewDetail{Close: &bad, NoAllow: hostile},
	}
	var list []testCase
	for _, v := range views {
		list = append(list, testCase{"hostile", p, v})
	}
	return list
}

// renewed are permissions that all count as new.
func renewed(list []Permission) []Permission {
	out := slices.Clone(list)
	for i := range out {
		out[i].New = true
	}
	return out
}
