package workloads

import (
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// settings are the variables of plain fields of the spec. What is not set has none, so that the release's own default applies, and so that a new field of the
// operator changes no pod template.
func settings(spec *v1alpha1.AtlasStackSpec, role Role) []*envVar {
	switch role {
	case RoleAPI:
		return apiSettings(spec)
	case RoleWorker:
		return workerSettings(spec)
	case RoleIndexer, RoleAudit, RoleMigrate:
	}
	return nil
}

func apiSettings(spec *v1alpha1.AtlasStackSpec) (env []*envVar) {
	env = append(env, duration("ACCESS_TOKEN_TTL", spec.Auth.AccessTokenLifetime)...)
	env = append(env, duration("REFRESH_TOKEN_TTL", spec.Auth.RefreshTokenLifetime)...)
	if spec.Auth.Registration == v1alpha1.RegistrationClosed {
		env = append(env, plain("REGISTRATION", "closed"))
	}
	env = append(env, duration("TRASH_RETENTION", spec.Retention.Trash)...)
	env = append(env, list("TRUSTED_PROXIES", spec.Networking.TrustedProxies)...)
	env = append(env, list("CORS_ORIGINS", spec.Networking.CORSOrigins)...)
	if limit := spec.Networking.RequestsPerMinute; limit != nil {
		env = append(env, plain("RATE_LIMIT", strconv.Itoa(int(*limit))))
	}
	return env
}

func workerSettings(spec *v1alpha1.AtlasStackSpec) (env []*envVar) {
	env = append(env, duration("TRASH_RETENTION", spec.Retention.Trash)...)
	env = append(env, duration("JOB_RETENTION", spec.Retention.Jobs)...)
	env = append(env, duration("FILE_RETENTION", spec.Retention.Files)...)
	env = append(env, list("ENRICH_ALLOW_CIDRS", spec.Enrichment.AllowCIDRs)...)
	env = append(env, list("ENRICH_DENY_CIDRS", spec.Enrichment.DenyCIDRs)...)
	if spec.Enrichment.Contact != "" {
		env = append(env, plain("ENRICH_CONTACT", spec.Enrichment.Contact))
	}
	return env
}

func duration(name string, value *metav1.Duration) []*envVar {
	if value == nil {
		return nil
	}
	return []*envVar{plain(name, value.Duration.String())}
}

func list(name string, values []string) []*envVar {
	if len(values) == 0 {
		return nil
	}
	return []*envVar{plain(name, strings.Join(values, ","))}
}
