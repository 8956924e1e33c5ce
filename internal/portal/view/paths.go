package view

// The paths of sections that the frame of a page links to. Everything else a
// page links to or posts to comes in its struct.
const (
	PathHome     = "/account"          // overview and check-up
	PathPasskeys = "/account/passkeys" // passkeys and methods
	PathSessions = "/account/sessions" // sessions and devices
	PathRequests = "/account/requests" // what apps ask that is answered here
	PathActivity = "/account/activity"
	PathEmail    = "/account/email"
	PathRecovery = "/account/recovery" // codes, and a recovery under way
	PathSignIn   = "/signin"
	PathRecover  = "/recover" // trouble signing in
	PathSignOut  = "/signout"
	PathPeople   = "/admin/people"
	PathAudit    = "/admin/audit"
	PathNotices  = "/admin/notices"
	PathApps     = "/admin/apps"    // that nobody registered
	PathKinds    = "/admin/factors" // which ways to sign in people may use

	PathReviews    = "/admin/reviews"    // of what was refused
	PathPolicies   = "/admin/policies"   // their rules, and versions
	PathRollout    = "/admin/rollout"    // of policies, in waves
	PathExceptions = "/admin/exceptions" // to rules

	PathPublications = "/admin/publications" // of policies that are to come into force
	PathRecoveries   = "/admin/recoveries"
	PathPass         = "/admin/pass" // for helpers, too
)

type section struct {
	path, text string
	admin      bool
	helper     bool // for helpers who are no administrators
	asked      bool // where apps may ask people
}

var sections = []section{
	{path: PathHome, text: "Overview"},
	{path: PathPasskeys, text: "Passkeys"},
	{path: PathSessions, text: "Sessions"},
	{path: PathRequests, text: "Requests", asked: true},
	{path: PathRecovery, text: "Recovery"},
	{path: PathActivity, text: "Activity"},
	{path: PathEmail, text: "E-mail"},
	{path: PathPass, text: "Temporary pass", helper: true},
	{path: PathPeople, text: "People", admin: true},
	{path: PathReviews, text: "Reviews", admin: true},
	{path: PathRecoveries, text: "Recoveries", admin: true},
	{path: PathApps, text: "Apps", admin: true},
	{path: PathNotices, text: "Notices", admin: true},
	{path: PathPolicies, text: "Policies", admin: true},
	{path: PathExceptions, text: "Exceptions", admin: true},
	{path: PathPublications, text: "Publications", admin: true},
	{path: PathRollout, text: "Rollout", admin: true},
	{path: PathAudit, text: "Audit log", admin: true},
}

func sectionsOf(u *User) []section {
	var out []section
	for _, s := range sections {
		if (!s.admin || u.Admin) && (!s.helper || u.Helper && !u.Admin) && (!s.asked || u.Asked) {
			out = append(out, s)
		}
	}
	return out
}
