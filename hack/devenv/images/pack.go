package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is the conventional "nonroot" id. It is numeric so that kubelet can check runAsNonRoot without a passwd file.
const user = "65532:65532"

// keepArchives is how many archives of one name stay in the cache: the running one, and a few to go back to.
const keepArchives = 3

// Image is one image and the archive that holds it.
type Image struct {
	Ref string // for example localhost/atlas:3f0c62a8b1de
	Tar string // path of a Docker-format archive with Ref as its only tag
}

// Pack wraps one static Linux program in an image whose entry point is /NAME, and writes its archive to dir unless it is there already.
// The same program always gives the same Ref.
func Pack(nm, program, dir string) (Image, error) {
	img, err := assemble(nm, program)
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", nm, err)
	}
	id, err := img.ConfigName() // digest of the configuration, which in turn names the layer's digest
	if err != nil {
		return Image{}, fmt.Errorf("digest image %s: %w", nm, err)
	}
	tag, err := name.NewTag("localhost/"+nm+":"+id.Hex[:12], name.StrictValidation)
	if err != nil {
		return Image{}, fmt.Errorf("name image %s: %w", nm, err)
	}
	out := Image{Ref: tag.String(), Tar: filepath.Join(dir, nm+"-"+id.Hex[:12]+".tar")}
	if _, err := os.Stat(out.Tar); err == nil {
		now := time.Now()
		return out, os.Chtimes(out.Tar, now, now) // in use: keep it from being pruned
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Image{}, err
	}
	// Written aside and renamed, so that an interrupted run leaves no half archive under the final name.
	tmp, err := os.CreateTemp(dir, "."+nm+"-*")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = tarball.Write(tag, img, tmp)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), out.Tar)
	}
	if err != nil {
		return Image{}, fmt.Errorf("write %s: %w", out.Tar, err)
	}
	return out, prune(nm, dir)
}

// assemble makes the image of one layer, with its configuration.
func assemble(nm, program string) (v1.Image, error) {
	layer, err := layer(nm, program)
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.DockerManifestSchema2), layer)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	cfg.Config = v1.Config{Entrypoint: []string{"/" + nm}, User: user, WorkingDir: "/"}
	return mutate.ConfigFile(img, cfg)
}

// layer holds the program alone, with no trace of when or by whom it was built. It stays uncompressed: it only travels to this machine's
// own container runtime, where compression would cost more time than it saves.
func layer(nm, program string) (v1.Layer, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: nm, Mode: 0o555, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(h); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(buf.Bytes(), types.DockerUncompressedLayer), nil
}

// prune removes the oldest archives of one name. Running instances are not affected: their nodes have imported what they use.
func prune(nm, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type archive struct {
		path string
		used time.Time
	}
	var all []archive
	for _, e := range entries {
		tag, ok := strings.CutPrefix(e.Name(), nm+"-")
		if !ok || len(tag) != len("0123456789ab.tar") || !strings.HasSuffix(tag, ".tar") {
			continue
		}
		if info, err := e.Info(); err == nil {
			all = append(all, archive{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b archive) int { return b.used.Compare(a.used) })
	for _, a := range all[min(keepArchives, len(all)):] {
		if err := os.Remove(a.path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
