package ladder

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/session"
)

// deviceOf is the one device that somebody has signed in from.
func (d *deployment) deviceOf(username string) session.Known {
	d.t.Helper()
	p, err := d.state.Store.PersonByUsername(d.t.Context(), username)
	check(d.t, err)
	list, err := d.state.Store.DevicesOf(d.t.Context(), p.ID)
	check(d.t, err)
	if len(list) != 1 {
		d.t.Fatalf("%s has the devices %+v", username, list)
	}
	list[0].Managed.Person = p.ID
	return list[0]
}

// TestManagedDevices: where the most sensitive needs a managed device, from another it is
// refused, in the browser and at the command line, and nobody is asked for proof that
// would not help; from one that was marked it is done, and from a browser that lost what
// tells its device it is not.
func TestManagedDevices(t *testing.T) {
	d := deploy(t, 0, "devices: {managed: true}\n")
	dana := d.founder()
	sam := dana.invites("Sam")
	hers, his := d.deviceOf("dana"), d.deviceOf("sam")
	shell := d.terminal()
	address, done := shell.asks(t.Context(), "login", d.issuer)
	dana.goesOn(address)
	if r := <-done; r.Exit != 0 {
		t.Fatalf("login: %+v", r)
	}
	marks := []string{"person", "device", "manage", "sam", his.ID, "--days", "30", "--asset", "LT-0042"}
	page := "/admin/people/devices/manage?id=" + his.Managed.Person + "&device=" + his.ID
	refused := func(who *somebody) {
		t.Helper()
		who.open(page)
		who.WaitText("Is this device yours?")
		who.AllowConsole("403")
		who.ClickText("It is ours")
		who.WaitText("This needs a managed device")
		if strings.Contains(who.URL(), "/step-up") {
			t.Errorf("they are asked for proof: %s", who.URL())
		}
	}
	refused(dana)
	if r := shell.run(marks...); r.Exit == 0 || !strings.Contains(r.Stderr, "managed device") {
		t.Errorf("at the command line: %+v", r)
	}
	asked, _, err := d.state.Store.AuditPage(t.Context(), filter(audit.StepUpAsked), 5)
	check(t, err)
	if len(asked) != 0 {
		t.Errorf("proof was asked for %d times", len(asked))
	}

	// Whoever manages devices marks hers, and now she does the same, in both places.
	_, err = d.state.Do.Do(t.Context(), act.Intent{
		Action: policy.SandboxSeed, Kind: audit.DeviceManaged, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			m := session.Managed{Device: hers.ID, Person: hers.Managed.Person, Until: d.now().Add(24 * time.Hour), By: "svc_mdm", At: d.now()}
			return act.Effect{Changes: []act.Change{session.Manage{Managed: m}}}, nil
		},
	})
	check(t, err)
	dana.open("/account/sessions")
	dana.WaitText(hers.ID)
	dana.WaitText("Managed")
	dana.open("/admin/people")
	dana.Click("a[href='/admin/people/devices?id=" + his.Managed.Person + "']")
	dana.WaitText("Not managed")
	dana.open(page)
	dana.WaitText("Is this device yours?")
	dana.Fill("#asset", "LT-7")
	dana.ClickText("It is ours")
	dana.WaitText("It counts as a managed device from now on.")
	dana.WaitText("LT-7")
	if r := shell.run(marks...); r.Exit != 0 {
		t.Errorf("at the command line: %+v", r)
	}

	// Sam's is one now; hers without its cookie is none.
	sam.open(page)
	sam.WaitText("LT-0042")
	sam.ClickText("It is ours")
	sam.WaitText("It counts as a managed device from now on.")
	d.bare.Store(true)
	refused(dana)
	d.bare.Store(false)

	// What is taken back is taken back from anywhere.
	dana.open(page)
	dana.ClickText("Take it back")
	dana.WaitText("It doesn't count as a managed device any more.")
	refused(sam)
}
