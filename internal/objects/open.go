package objects

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// location is a store's URL.
type location struct {
	// folder is set for a volume; the others for S3.
	folder                   string
	bucket, prefix, endpoint string
	secure, pathStyle        bool
	region                   string
}

// CheckURL tells whether Open can make something of a URL, without opening it. The error repeats no part of the URL: somebody may have put a secret there.
func CheckURL(raw string) error {
	_, err := parse(raw)
	return err
}

// Open returns the store at a URL:
//
//	s3://bucket/prefix?endpoint=https://minio.example.com:9000&region=eu-central-1&path_style=true
//	file:///data/atlas
//
// Of S3's parameters each may be absent: the endpoint is that of AWS then. Credentials are where every client of S3 looks for them: AWS_ACCESS_KEY_ID
// and AWS_SECRET_ACCESS_KEY, the file that AWS_SHARED_CREDENTIALS_FILE names, or the identity of the machine or pod. It is not looked whether the bucket
// is there; the folder has to be.
func Open(raw string) (Store, error) {
	return open(raw, &credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{})
}

// OpenWithKeys is Open with an access key and a secret key from elsewhere.
func OpenWithKeys(raw, access, secret string) (Store, error) {
	return open(raw, &credentials.Static{Value: credentials.Value{AccessKeyID: access, SecretAccessKey: secret, SignerType: credentials.SignatureV4}})
}

func open(raw string, keys ...credentials.Provider) (Store, error) {
	at, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if at.folder != "" {
		return openFolder(at.folder)
	}
	return openS3(at, credentials.NewChainCredentials(keys))
}

func parse(raw string) (location, error) {
	var at location
	u, err := url.Parse(raw)
	switch {
	case err != nil || (u.Scheme != "s3" && u.Scheme != "file"):
		return at, errors.New("want s3://bucket/prefix?endpoint=…&region=…&path_style=… or file:///folder")
	case u.User != nil:
		return at, errors.New("it contains credentials: give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a file that AWS_SHARED_CREDENTIALS_FILE names")
	case u.Fragment != "" || u.Opaque != "":
		return at, errors.New("it has parts that mean nothing here")
	case u.Scheme == "file":
		if u.Host != "" || !path.IsAbs(u.Path) || u.RawQuery != "" {
			return at, errors.New("a folder is file:// and an absolute path, without a host or parameters")
		}
		at.folder = path.Clean(u.Path)
		return at, nil
	}
	at.bucket, at.prefix = u.Host, strings.Trim(u.Path, "/")
	if at.bucket == "" || u.Port() != "" {
		return at, errors.New("it names no bucket: want s3://bucket")
	}
	if at.prefix != "" {
		if err := CheckName(at.prefix); err != nil {
			return at, fmt.Errorf("the prefix %w", err)
		}
		at.prefix += "/"
	}
	return at, at.parameters(u.RawQuery)
}

func (at *location) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("its parameters can't be read")
	}
	known := []string{"endpoint", "region", "path_style"}
	for name, value := range values {
		if !slices.Contains(known, name) || len(value) > 1 {
			return errors.New("its parameters are endpoint, region and path_style, each once")
		}
	}
	at.endpoint, at.secure, at.region = "s3.amazonaws.com", true, values.Get("region")
	if endpoint := values.Get("endpoint"); endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return errors.New("its endpoint is not usable: want http://host:port or https://host")
		}
		at.endpoint, at.secure = u.Host, u.Scheme == "https"
	}
	if style := values.Get("path_style"); style != "" {
		if at.pathStyle, err = strconv.ParseBool(style); err != nil {
			return errors.New("its path_style is neither true nor false")
		}
	}
	return nil
}
