package view

import "time"

// recoveryCases are the pages of getting back in, in all their states.
func recoveryCases() []testCase {
	told := []string{"By e-mail to d…@example.com.", "Whoever is signed in to this account: its pages show it and can stop it.", "The administrators: their pages list it."}
	const cancel = "https://auth.example.com/recover/cancel#cs_cancel_4fJ0aZk81LmNq2RsTuVwXyZ0123456789abcdefghijk12345"
	form24 := RecoverForm{Form: form, Wait: day, Back: PathRecover}
	wrong, pass, locked := form24, form24, form24
	wrong.Username, wrong.Code = Input{Value: "dana@example.com"}, Input{Error: "This name and this code don't go together, or the code was used."}
	pass.Pass, locked.Until = true, in(12*time.Minute)
	st := RecoverStatus{
		Account: "dana@example.com", StartedAt: ago(time.Hour), ReadyAt: in(23 * time.Hour), ExpiresAt: in(8 * day), Confirmed: 1, Quorum: 2, Told: told,
		Link: "https://auth.example.com/recover/open#cs_recover_4fJ0aZk81LmNq2RsTuVwXyZ0123456789abcdefghijk12345", Continue: "/recover/passkey", Stop: form, Paste: form, Back: PathRecover,
	}
	status := func(s RecoverState) RecoverStatus { x := st; x.State = s; return x }
	pasted := RecoverStatus{Paste: form, Pasted: Input{Error: "This is not a whole private link of a recovery."}, Back: PathRecover}
	stop := RecoverCancel{Account: "dana@example.com", StartedAt: ago(3 * time.Hour), Form: form, SignIn: PathSignIn}
	stopPass, over, completed := stop, stop, stop
	stopPass.Pass, stopPass.Used, over.Over, completed.Over, completed.Completed = true, true, true, true, true
	codes := []string{"7Q4K-M2PX-9TRA-0HJ5-WXYZ-1234", "8Q4K-M2PX-9TRA-0HJ5-WXYZ-1235", "9Q4K-M2PX-9TRA-0HJ5-WXYZ-1236", "AQ4K-M2PX-9TRA-0HJ5-WXYZ-1237", "BQ4K-M2PX-9TRA-0HJ5-WXYZ-1238"}
	byCode := OpenRecovery{ID: "rcv_1", What: "A recovery with a recovery code", Account: "dana@example.com", StartedAt: ago(time.Hour), ReadyAt: in(23 * time.Hour), ExpiresAt: in(8 * day), URL: "/r/1", Stop: &form}
	byPeople := OpenRecovery{ID: "rcv_2", What: "A recovery by two administrators", Account: "mira@example.com", StartedAt: ago(2 * time.Hour), ExpiresAt: in(6 * day), By: "Sam Lindqvist", Reason: "Phone and laptop were stolen", Confirmed: 1, Quorum: 2, URL: "/r/2"}
	aPass := OpenRecovery{ID: "rcv_3", What: "A temporary pass", Account: "old@example.com", StartedAt: ago(20 * time.Minute), ReadyAt: ago(20 * time.Minute), ExpiresAt: in(40 * time.Minute), By: "Sam Lindqvist", Reason: "Left the key at home", URL: "/r/3"}
	detail := RecoveryDetail{OpenRecovery: byPeople, State: RecoverAsking, Confirmers: []string{"Sam Lindqvist"}, Told: told, CancelLink: cancel, Confirm: &form, Cancel: &form, Back: PathRecoveries}
	typed, mine, admin, past := detail, detail, detail, detail
	typed.Code = Input{Error: "That isn't the code of this recovery. Let the person read it to you once more."}
	mine.Confirm, mine.Why = nil, "You have confirmed this. A second administrator has to do it too."
	admin.Admin = true
	past.State, past.Confirm, past.Cancel, past.CancelLink = RecoverDone, nil, nil, ""
	enrol := EnrolPasskey{Account: "dana@example.com", Name: Input{Value: "Firefox on Linux"}, Ceremony: create}
	return []testCase{
		{"recover", out(), Recover{Wait: day, SignIn: PathSignIn, Code: "/c", People: "/a", Pass: "/p", Status: "/s", Nothing: "Write to it@example.com."}},
		{"recover-under-way", out(), Recover{Wait: day, Under: true, SignIn: PathSignIn, Code: "/c", People: "/a", Pass: "/p", Status: "/s"}},
		{"recover-code", out(), form24},
		{"recover-code-wrong", out(), wrong},
		{"recover-code-locked", out(), locked},
		{"recover-pass", out(), pass},
		{"recover-ask", out(), RecoverAsk{Code: "7Q4K-M2PX-9TRA-0HJ5", Status: "/s", Back: PathRecover}},
		{"recover-none", out(), RecoverStatus{Paste: form, Back: PathRecover}},
		{"recover-none-wrong", out(), pasted},
		{"recover-waiting", out(), status(RecoverWaiting)},
		{"recover-asking", out(), status(RecoverAsking)},
		{"recover-ready", out(), status(RecoverReady)},
		{"recover-done", out(), status(RecoverDone)},
		{"recover-stopped", out(), status(RecoverStopped)},
		{"recover-over", out(), status(RecoverOver)},
		{"recover-not-needed", out(), status(RecoverNotNeeded)},
		{"recover-passkey", out(), enrol},
		{"recover-open", out(), OpenLink{Kind: RecoverLink, PostURL: "/recover/open", PasteURL: "/recover/status"}},
		{"cancel-open", out(), OpenLink{Kind: CancelLink, PostURL: "/recover/cancel/open", PasteURL: "/recover/cancel/paste"}},
		{"cancel-paste", out(), PasteLink{Headline: "Stop a recovery", Form: form, Back: PathRecover}},
		{"cancel-paste-wrong", out(), PasteLink{Headline: "Stop a recovery", Form: form, Link: Input{Error: "This link cancels nothing: it is incomplete, or not one of ours."}}},
		{"cancel", out(), stop},
		{"cancel-pass", out(), stopPass},
		{"cancel-over", out(), over},
		{"cancel-completed", out(), completed},
		{"codes", dana(""), RecoveryCodes{Codes: codes, Account: "dana@example.com", Next: Link{"I saved them", PathRecovery}}},
		{"codes-setup", dana(""), RecoveryCodes{Codes: codes, Account: "dana@example.com", Next: Link{"I saved them", "/setup/done"}, Setup: true}},
		{"codes-offer", dana(""), OfferCodes{Form: form, Later: form, Setup: true, Wait: day}},
		{"codes-offer-invited", sam(""), OfferCodes{Form: form, Later: form, Wait: day}},
		{"own-recovery", dana(PathRecovery), OwnRecovery{Left: 7, Of: 10, MadeAt: ago(20 * day), Make: form, Wait: day}},
		{"own-recovery-none", sam(PathRecovery), OwnRecovery{Of: 10, Make: form, Wait: day}},
		{"own-recovery-open", dana(PathRecovery), OwnRecovery{Left: 9, Of: 10, MadeAt: ago(20 * day), Make: form, Wait: day, Open: []OpenRecovery{byCode, byPeople}}},
		{"own-recovery-after", sam(PathRecovery), OwnRecovery{Of: 10, Make: form, Wait: day, Trial: in(2 * day), Limited: true, Past: []PastRecovery{{"A recovery with a recovery code", "completed", ago(day)}, {"A temporary pass", "cancelled", ago(9 * day)}}}},
		{"recoveries", dana(PathRecoveries), Recoveries{Items: []OpenRecovery{byCode, byPeople, aPass}, OpenURL: "/o", PassURL: PathPass, Told: "Each is told wherever they can be reached.", Older: "/admin/recoveries?after=1"}},
		{"recoveries-none", dana(PathRecoveries), Recoveries{OpenURL: "/o", PassURL: PathPass, Told: "No mail is configured here: nobody is told by message, so print the cancel link and hand it over."}},
		{"recoveries-open", dana(PathRecoveries), OpenForm{Form: form, Back: PathRecoveries}},
		{"recoveries-open-wrong", dana(PathRecoveries), OpenForm{Form: form, Username: Input{Value: "mria", Error: "Nobody has this user name."}, Code: Input{Value: "7Q4K", Error: "That code is incomplete or mistyped."}, Reason: Input{Error: "Say why, in 1 to 200 characters."}, Back: PathRecoveries}},
		{"recovery", dana(PathRecoveries), detail},
		{"recovery-admin", dana(PathRecoveries), admin},
		{"recovery-code-wrong", dana(PathRecoveries), typed},
		{"recovery-mine", dana(PathRecoveries), mine},
		{"recovery-past", dana(PathRecoveries), past},
		{"pass", dana(PathPass), PassForm{Form: form, Valid: 1, Lasts: 8, Back: PathRecoveries}},
		{"pass-wrong", helper(), PassForm{Form: form, Username: Input{Value: "dana@example.com", Error: "An administrator gets no temporary pass."}, Valid: 4, Lasts: 1}},
		{"pass-made", dana(PathPass), PassMade{For: "Sam Lindqvist", Code: "7Q4K-M2PX-9TRA-0HJ5-WXYZ-1234", Enter: "https://auth.example.com/recover/pass", ExpiresAt: in(time.Hour), Lasts: 8 * time.Hour, Told: told, CancelLink: cancel, Back: PathRecoveries}},
	}
}

// helper is a page for somebody who may give passes and is no administrator.
func helper() Page {
	p := sam(PathPass)
	u := *p.User
	u.Helper = true
	p.User = &u
	return p
}
