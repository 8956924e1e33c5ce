package view

import "time"

func deviceCases() []testCase {
	asked := DeviceAsk{
		App: App{Name: "Countersign command line", Trust: Registered}, Code: "7Q4K-M2PX", Host: "build-7", From: "198.51.100.7", Here: "198.51.100.20", At: ago(40 * time.Second),
		Resource: "Sample notes API", ResourceURL: "https://notes.example.com", Form: form, Switch: &form, Deadline: Deadline{At: in(4 * time.Minute)},
		Permissions: []Permission{
			{Group: Read, Text: "See your notes", Scope: "notes:read"},
			{Group: Admin, Text: "Rotate the keys of the service", Scope: "keys:rotate", Again: "a passkey used in the last 5 minutes"},
		},
	}
	elsewhere := asked
	elsewhere.Elsewhere, elsewhere.Shows, elsewhere.Here = true, true, "203.0.113.40"
	wrong := elsewhere
	wrong.Typed.Error = "That is not the code that the device shows now. Tries left: 3."
	again := elsewhere
	again.Shows, again.Unplaced, again.From, again.Here, again.Permissions = false, true, "", "", nil
	odd := elsewhere
	odd.Host, odd.App.Name = "a\u202eb<script>alert(1)</script>", hostile
	entry := DeviceCode{Form: form}
	linked, bad, late := entry, entry, entry
	linked.Linked, linked.Code.Value = true, "7Q4K-M2PX"
	bad.Code = Input{Value: "7Q4K", Error: "That code isn't right. Codes look like 7Q4K-M2PX."}
	late.Until = in(12 * time.Minute)
	return []testCase{
		{"device-code", dana(""), entry},
		{"device-code-linked", dana(""), linked},
		{"device-code-wrong", dana(""), bad},
		{"device-code-throttled", sam(""), late},
		{"device-ask", dana(""), asked},
		{"device-ask-elsewhere", dana(""), elsewhere},
		{"device-ask-wrong", dana(""), wrong},
		{"device-ask-again", sam(""), again},
		{"device-ask-hostile", dana(""), odd},
		{"device-signed-in", dana(""), Done{Headline: "Your device is signed in", Text: "Go back to it: it goes on by itself within seconds. You can close this tab.", Next: &Link{"See what is running in your name", PathSessions}}},
		{"device-denied", out(), Done{Headline: "Nothing was allowed", Text: "The device was told no. If somebody sent you its code, tell an administrator: they may be trying others.", Next: &Link{"Open my account", PathHome}}},
	}
}
