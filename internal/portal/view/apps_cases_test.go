package view

import "time"

func appsCases() []testCase {
	const print = "Zk3rX0a9vQ2mT7yB5nLp8cWd1eFg4hJi6kMo0qRsTuV"
	may := []string{"anything, at Sample notes API (https://notes.example.com)", "notes:read, at Ledger (https://ledger.example.com)"}
	changes := []Link{{"Block", "/c/1"}, {"Allow", "/c/2"}, {"Trust", "/c/3"}}
	editor := AppGroup{Name: "Code editor", Domain: "editor.example.com", Apps: 1, People: 12, UsedAt: ago(20 * time.Minute), Trust: TrustedApp, URL: "/g/1", Changes: changes}
	itself := AppGroup{Name: "Countersign command line", Print: print, Apps: 31, People: 2, URL: "/g/2", Changes: changes[:1]}
	evil := AppGroup{Name: hostile, Domain: "evil.example", Apps: 1, People: 1, UsedAt: ago(3 * day), Trust: BlockedApp, URL: "/g/3", Changes: []Link{{"Take back", "/c/4"}}}
	all := Apps{
		Documents: ListedDocuments, Itself: true, May: may, PinURL: "/c/5", Items: []AppGroup{editor, itself, evil}, Older: PathApps + "?before=1",
		Rules: []AppRule{{Name: "Code editor", Group: "editor.example.com", Trust: TrustedApp, At: ago(day), ChangeURL: "/r/1"}, {Name: "*.evil.example", Group: "*.evil.example", Trust: BlockedApp, At: ago(day), ChangeURL: "/r/2"}},
		Pins:  []AppPin{{Name: "Wiki", ClientID: "https://wiki.example.com/oauth/a-rather-long-path-to-the-document-of-a-client.json", At: ago(2 * day), ChangeURL: "/u/1"}},
	}
	one := AppDetail{
		AppGroup: editor, May: may, Back: PathApps,
		Apps: []AppRow{{Name: "Code editor", ClientID: "https://editor.example.com/oauth.json", To: []string{"editor.example.com", "127.0.0.1"}, Since: ago(40 * day), Pinned: true, RemoveURL: "/x/1"}},
		Uses: []AppUse{
			{Person: "Sam Lindqvist", App: "Code editor", Permissions: []string{"openid", "See your notes (Sample notes API)"}, Since: ago(40 * day), UsedAt: ago(20 * time.Minute)},
			{Person: "Mira Tanaka", App: "Code editor", Permissions: []string{"openid"}, Since: ago(2 * day)},
		},
	}
	stopped := AppDetail{
		AppGroup: evil, Back: PathApps, More: true,
		Apps: []AppRow{{Name: hostile, ClientID: "https://evil.example/" + hostile, To: []string{hostile}, Since: ago(3 * day), Stopped: true, RemoveURL: "/x/2"}},
	}
	twins := AppDetail{AppGroup: itself, May: may, Back: PathApps, Apps: []AppRow{
		{Name: itself.Name, ClientID: "dyn_sNRos2ZxqoNA-3odeVV1nv6UNAGpnc7JzpESs_CmPYM", To: []string{"127.0.0.1"}, Since: ago(day), RemoveURL: "/x/3"},
		{Name: itself.Name, ClientID: "dyn_aNRos2ZxqoNA-3odeVV1nv6UNAGpnc7JzpESs_CmPYM", To: []string{"127.0.0.1"}, Since: ago(2 * day), RemoveURL: "/x/4"},
	}, Uses: []AppUse{{Person: "Sam Lindqvist", App: itself.Name, Permissions: []string{hostile}, Since: ago(day)}}}
	block := AppChange{Verb: "Block", What: "apps of editor.example.com", Danger: true, Form: form, Back: PathApps, Leads: []string{
		"They stop at once: what they were given stands still everywhere within seconds, and nobody can sign in to them.", "Taking the block back lets them go on.",
	}}
	pin := AppChange{Verb: "Pin", What: "the description of an app", Document: &Input{}, Form: form, Back: PathApps, Leads: []string{"The app is what this description says, whatever is at its address."}}
	bad := pin
	bad.Document = &Input{Value: "{\n  \"client_name\": \"x\"\n}", Error: "The document names another client_id than its address."}
	return []testCase{
		{"apps", dana(PathApps), all},
		{"apps-none", with(dana(PathApps), Notice{Good, "Removed.", "It stops everywhere within seconds.", ""}), Apps{PinURL: "/c/5"}},
		{"apps-any", dana(PathApps), Apps{Documents: AnyDocuments, PinURL: "/c/5", Newer: PathApps}},
		{"app-group", dana(PathApps), one},
		{"app-group-itself", dana(PathApps), twins},
		{"app-group-blocked", dana(PathApps), stopped},
		{"app-block", dana(PathApps), block},
		{"app-pin", dana(PathApps), pin},
		{"app-pin-wrong", dana(PathApps), bad},
	}
}
