package pguri

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// checkPorts finds a port that is none in a list of hosts.
func checkPorts(hosts string) error {
	for host := range strings.SplitSeq(hosts, ",") {
		u := url.URL{Host: host}
		if u.Port() == "" {
			continue
		}
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return errors.New("has a port that is not between 1 and 65535: write postgres://user:password@host:5432/database")
		}
	}
	return nil
}

// checkParameters finds a value that a parameter of the connection can't have.
func checkParameters(parameters url.Values) error {
	allowed := map[string][]string{
		"sslmode":              {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
		"target_session_attrs": {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
	}
	for _, name := range []string{"sslmode", "target_session_attrs"} {
		if value := parameters.Get(name); value != "" && !slices.Contains(allowed[name], value) {
			return fmt.Errorf("has a parameter %s that is none of %s", name, strings.Join(allowed[name], ", "))
		}
	}
	if seconds := "connect_timeout"; parameters.Has(seconds) {
		if n, err := strconv.ParseInt(parameters.Get(seconds), 10, 32); err != nil || n < 0 {
			return fmt.Errorf("has a parameter %s that is no number of seconds, 10 for example", seconds)
		}
	}
	return nil
}
