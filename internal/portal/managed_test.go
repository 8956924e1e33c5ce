package portal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/session"
)

// TestManagedPages: an administrator marks a device of somebody's with a fresh sign-in,
// both are told, the person sees it, and it ends where they part with the device.
func TestManagedPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.browser(), r.browser()
	dana.setUp()
	sam.accept(dana.invite("Sam", "", ""), "Sam", "sam").to(t)
	who := r.person("sam")
	marks := func() session.Known {
		t.Helper()
		list, err := r.store.DevicesOf(t.Context(), who.ID)
		check(t, err)
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		return list[0]
	}
	device := marks().ID
	list, page := "/admin/people/devices?id="+who.ID, "/admin/people/devices/manage?device="+device+"&id="+who.ID
	if a := dana.get(list); a.status != 200 || !strings.Contains(a.body, device) || !strings.Contains(a.body, "Not managed") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	dana.get(page).shows(t, 200, "Managed device")
	post := func(more ...string) answer {
		return dana.post("/admin/people/devices/manage", append([]string{"id", who.ID, "device", device}, more...)...)
	}
	post("days", "30", "asset", strings.Repeat("x", 65)).shows(t, 200, "Check your answers")
	if marks().Managed.Device != "" {
		t.Error("marked with a name that is none")
	}
	r.clock.move(6 * time.Minute)
	post("days", "30").sent(t, "/step-up?")
	dana.stepUp(0, page)
	post("days", "30", "asset", " LT-0042 ").sent(t, "/admin/people/devices?done=device.managed&id="+who.ID)
	m := marks().Managed
	if m.Asset != "LT-0042" || m.Until.Sub(r.clock.now()).Round(time.Hour) != 30*24*time.Hour || m.By != r.person("dana@example.com").ID {
		t.Errorf("%+v", m)
	}
	if a := dana.get(page); !strings.Contains(a.body, "LT-0042") || !strings.Contains(a.body, "Dana Example") {
		t.Error("the page does not say as what, and who said so")
	}
	post("days", "36500").sent(t, "/admin/people/devices?done")
	if got := marks().Managed.Until.Sub(r.clock.now()).Round(time.Hour); got != 90*24*time.Hour {
		t.Errorf("for a time that is not offered: %s", got)
	}
	if a := sam.get("/account/sessions"); !strings.Contains(a.body, device) || !strings.Contains(a.body, "Managed") {
		t.Error("the person does not see it")
	}
	if a := dana.get("/admin/audit?q=managed+one"); !strings.Contains(a.body, "Dana Example called a device,") || !strings.Contains(a.body, "of Sam a managed one") {
		t.Error("the log does not tell who, and of whom")
	}

	// Whoever is no administrator learns nothing, and neither does anybody of what is not
	// there.
	for _, path := range []string{list, page, "/admin/people/devices?id=nobody"} {
		if a := sam.get(path); a.status != 403 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := sam.post("/admin/people/devices/unmanage", "id", who.ID, "device", device); a.status != 403 {
		t.Errorf("%d", a.status)
	}
	if a := dana.get("/admin/people/devices/manage?id=" + who.ID + "&device=dev_0"); a.status != 404 {
		t.Errorf("%d", a.status)
	}

	sam.post("/account/end", "id", device).sent(t, "/")
	if marks().Managed.Device != "" {
		t.Error("it outlives that its owner parted with it")
	}
	post("days", "30").sent(t, "/admin/people/devices?done")
	dana.post("/admin/people/devices/unmanage", "id", who.ID, "device", device).sent(t, "/admin/people/devices?done=device.unmanaged")
	if marks().Managed.Device != "" {
		t.Error("it was not taken back")
	}
	dana.post("/admin/people/devices/unmanage", "id", who.ID, "device", device).sent(t, "/admin/people/devices?id=")
	kinds := r.kinds()
	for _, k := range []audit.Kind{audit.DeviceManaged, audit.DeviceUnmanaged, audit.DeviceEnded} {
		if !strings.Contains(strings.Join(names(kinds), " "), k.Name()) {
			t.Errorf("no record of %s", k)
		}
	}
}

func names(kinds []audit.Kind) (out []string) {
	for _, k := range kinds {
		out = append(out, k.Name())
	}
	return out
}
