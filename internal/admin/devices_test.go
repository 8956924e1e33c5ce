package admin_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/store"
)

// mdm is a service with a token for devices.
func (r *rig) mdm(owner account.Person) *login {
	r.t.Helper()
	m := r.machine(owner)
	sv, err := r.store.Service(r.t.Context(), r.serviceOf(m))
	r.ok(err)
	m.token = m.mint("devices", func(t *jose.AccessTokenClaims) { t.Subject, t.ClientID, t.ACR = sv.Subject, "robot", "" })
	return m
}

func managedAt(person, device string) string {
	return "/v1/people/" + person + "/devices/" + device + "/managed"
}

// TestDevices: an administrator, or a service for it, lists the devices of a person, says
// which are managed and takes it back; the record says who did and whom it concerns.
func TestDevices(t *testing.T) {
	r := newRig(t)
	dana, sam := r.person("dana", r.admins.ID), r.person("sam")
	boss, theirs, robot := r.login(dana, everything), r.login(sam, everything), r.mdm(dana)
	device := theirs.session.Device
	list := func(who *login, person string) map[string]any {
		t.Helper()
		items := r.want(who.do("GET", "/v1/people/"+person+"/devices", nil), 200, "").items()
		if len(items) != 1 || items[0]["id"] != device || items[0]["name"] != "Chrome on Linux" {
			t.Fatalf("the devices are %v", items)
		}
		m, _ := items[0]["managed"].(map[string]any)
		return m
	}
	until := func(d time.Duration) string { return r.time().Add(d).UTC().Format(time.RFC3339) }
	if m := list(boss, sam.ID); m != nil {
		t.Errorf("before anything was said: %v", m)
	}
	for _, who := range []string{sam.ID, sam.Subject, "Sam"} {
		said := r.want(robot.do("PUT", managedAt(who, device), map[string]any{"until": until(24 * time.Hour), "asset": "LT-0042"}), 200, "")
		if m, _ := said.body["managed"].(map[string]any); m["by"] != r.serviceOf(robot) || m["asset"] != "LT-0042" {
			t.Errorf("by %s: %s", who, said.text)
		}
	}
	if m := list(robot, "sam"); m["until"] != until(24*time.Hour) {
		t.Errorf("it is %v", m)
	}
	r.want(boss.do("DELETE", managedAt(sam.ID, device), nil), 204, "")
	r.want(boss.do("DELETE", managedAt(sam.ID, device), nil), 204, "")
	if m := list(boss, "sam"); m != nil {
		t.Errorf("taken back: %v", m)
	}
	r.want(boss.do("PUT", managedAt(sam.ID, device), map[string]any{"until": until(time.Hour)}), 200, "")
	r.pass(time.Minute)
	r.want(theirs.do("POST", "/v1/sessions/"+device+"/end", nil), 200, "")
	if m := list(robot, "sam"); m != nil {
		t.Errorf("when they parted with it: %v", m)
	}

	var said []string
	page, _, err := r.store.AuditPage(t.Context(), store.Filter{Kinds: []audit.Kind{audit.DeviceManaged, audit.DeviceUnmanaged}}, 50)
	r.ok(err)
	for _, rec := range page {
		line, err := audit.Read(t.Context(), rec.Row, 0, r.keys, func(x string) string {
			return map[string]string{dana.ID: "Dana", sam.ID: "Sam", r.serviceOf(robot): "Robot"}[x]
		})
		r.ok(err)
		text, _, _ := strings.Cut(line.Sentence, " until ")
		said = append(said, text)
	}
	want := []string{
		"Dana called a device, Chrome on Linux, of Sam a managed one", "Dana took back that a device, Chrome on Linux, of Sam is a managed one",
		"Robot called a device, Chrome on Linux, of Sam a managed one", "Robot called a device, Chrome on Linux, of Sam a managed one", "Robot called a device, Chrome on Linux, of Sam a managed one",
	}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded:\n%s", strings.Join(said, "\n"))
	}
}

// TestMarkedDevices: all managed devices are found, and by who called them so, when that
// account is disabled, too; whoever disables it is told that there are some.
func TestMarkedDevices(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.person("dana", r.admins.ID), r.person("sam")
	boss, theirs, robot := r.login(dana, everything), r.login(sam, everything), r.mdm(dana)
	device := theirs.session.Device
	until := func(d time.Duration) string { return r.time().Add(d).UTC().Format(time.RFC3339) }
	r.want(robot.do("PUT", managedAt("sam", device), map[string]any{"until": until(24 * time.Hour), "asset": "LT-0042"}), 200, "")
	helper := r.login(r.person("helper", r.admins.ID), everything)
	own := helper.session.Device
	r.want(helper.do("PUT", managedAt("helper", own), map[string]any{"until": until(time.Hour)}), 200, "")
	r.want(helper.do("PUT", managedAt("dana", boss.session.Device), map[string]any{"until": until(time.Hour)}), 200, "")
	r.want(theirs.do("GET", "/v1/devices", nil), 403, "denied")
	if all := r.want(robot.do("GET", "/v1/devices", nil, query("limit=2")), 200, ""); len(all.items()) != 2 || all.body["next"] == nil {
		t.Errorf("%s", all.text)
	} else if rest := r.want(boss.do("GET", "/v1/devices", nil, query(url.Values{"after": {all.body["next"].(string)}}.Encode())), 200, ""); len(rest.items()) != 1 {
		t.Errorf("%s", rest.text)
	}
	if off := r.want(boss.do("POST", "/v1/people/"+helper.person.ID+"/disable", nil), 200, ""); off.body["marked_devices"] != 1.0 {
		t.Errorf("%s", off.text)
	}
	if by := r.want(boss.do("GET", "/v1/devices", nil, query("marked_by="+helper.person.ID)), 200, "").items(); len(by) != 1 || by[0]["person"] != dana.ID || by[0]["id"] != boss.session.Device {
		t.Errorf("%v", by)
	}
	if by := r.want(boss.do("GET", "/v1/devices", nil, query("marked_by="+r.serviceOf(robot))), 200, "").items(); len(by) != 1 || by[0]["person"] != sam.ID || by[0]["managed"].(map[string]any)["asset"] != "LT-0042" {
		t.Errorf("%v", by)
	}
}

// TestDevicesRefused: only administrators with a fresh phishing-resistant sign-in and
// services for it say so, of devices that the person signed in from, until a time not far
// off; where devices are asked for, an administrator does it from such a device only.
func TestDevicesRefused(t *testing.T) {
	r := newRig(t)
	dana, sam := r.person("dana", r.admins.ID), r.person("sam")
	boss, theirs, robot := r.login(dana, everything), r.login(sam, everything), r.mdm(dana)
	device := theirs.session.Device
	body := func(d time.Duration, more ...string) map[string]any {
		b := map[string]any{"until": r.time().Add(d)}
		for i := 0; i+1 < len(more); i += 2 {
			b[more[i]] = more[i+1]
		}
		return b
	}
	r.want(robot.do("PUT", managedAt("sam", device), body(0)), 400, "device_until_invalid")
	r.want(robot.do("PUT", managedAt("sam", device), body(401*24*time.Hour)), 400, "device_until_invalid")
	r.want(robot.do("PUT", managedAt("sam", device), body(time.Hour, "asset", "LT\u202e42")), 400, "device_asset_invalid")
	r.want(robot.do("PUT", managedAt("sam", boss.session.Device), body(time.Hour)), 404, "device_not_found")
	r.want(robot.do("PUT", managedAt("nobody", device), body(time.Hour)), 404, "person_not_found")
	r.want(robot.do("GET", "/v1/people/nobody/devices", nil), 404, "person_not_found")
	r.want(theirs.do("PUT", managedAt("sam", device), body(time.Hour)), 403, "denied")
	r.want(theirs.do("GET", "/v1/people/sam/devices", nil), 403, "denied")
	robot.token = robot.mint("signals", func(c *jose.AccessTokenClaims) {
		sv, err := r.store.Service(t.Context(), r.serviceOf(robot))
		r.ok(err)
		c.Subject, c.ClientID, c.ACR = sv.Subject, "robot", ""
	})
	r.want(robot.do("PUT", managedAt("sam", device), body(time.Hour)), 403, "insufficient_scope")

	r.do.ManagesDevices = true
	a := r.want(boss.do("PUT", managedAt("dana", boss.session.Device), body(time.Hour)), 403, "denied")
	if a.Header.Get("WWW-Authenticate") != "" || !strings.Contains(string(a.text), "managed device") {
		t.Errorf("from a device that is not managed: %s %s", a.Header.Get("WWW-Authenticate"), a.text)
	}
	r.want(boss.do("GET", "/v1/people/sam/devices", nil), 200, "") // routine stays
	r.do.ManagesDevices = false
	r.want(boss.do("PUT", managedAt("dana", boss.session.Device), body(time.Hour)), 200, "")
	r.do.ManagesDevices = true
	r.want(boss.do("PUT", managedAt("sam", device), body(time.Hour)), 200, "")
	r.pass(6 * time.Minute)
	boss.token = boss.mint(everything)
	if a := boss.do("PUT", managedAt("sam", device), body(time.Hour)); a.StatusCode != 401 || r.challenge(a).MaxAge != 5*time.Minute {
		t.Errorf("with an older sign-in: %d %s", a.StatusCode, a.text)
	}
}
