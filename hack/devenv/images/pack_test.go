package images_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/images"
)

func program(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestPackIsReproducible(t *testing.T) {
	t.Parallel()
	one, err := images.Pack("atlas", program(t, "same"), t.TempDir())
	require.NoError(t, err)
	p := program(t, "same")
	require.NoError(t, os.Chtimes(p, time.Unix(1, 0), time.Unix(1, 0)))
	two, err := images.Pack("atlas", p, t.TempDir())
	require.NoError(t, err)
	other, err := images.Pack("atlas", program(t, "other"), t.TempDir())
	require.NoError(t, err)

	require.Equal(t, one.Ref, two.Ref)
	require.NotEqual(t, one.Ref, other.Ref)
	require.Regexp(t, regexp.MustCompile(`^localhost/atlas:[0-9a-f]{12}$`), one.Ref)
	a, err := os.ReadFile(one.Tar)
	require.NoError(t, err)
	b, err := os.ReadFile(two.Tar)
	require.NoError(t, err)
	require.Equal(t, a, b, "the archives differ")
}

func TestPackMakesAMinimalImage(t *testing.T) {
	t.Parallel()
	out, err := images.Pack("operator", program(t, "content"), t.TempDir())
	require.NoError(t, err)
	img, err := tarball.ImageFromPath(out.Tar, nil)
	require.NoError(t, err)
	cfg, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, []string{"/operator"}, cfg.Config.Entrypoint)
	require.Equal(t, "65532:65532", cfg.Config.User)
	require.Equal(t, "linux/"+runtime.GOARCH, cfg.OS+"/"+cfg.Architecture)

	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	content, err := layers[0].Uncompressed()
	require.NoError(t, err)
	r := tar.NewReader(content)
	h, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, "operator", h.Name)
	require.Equal(t, int64(0o555), h.Mode)
	require.Zero(t, h.Uid)
	_, err = r.Next()
	require.True(t, errors.Is(err, io.EOF), "one file only")
}

func TestPackWritesAnUnchangedArchiveOnce(t *testing.T) {
	t.Parallel()
	dir, p := t.TempDir(), program(t, "content")
	first, err := images.Pack("atlas", p, dir)
	require.NoError(t, err)
	before, err := os.Stat(first.Tar)
	require.NoError(t, err)
	second, err := images.Pack("atlas", p, dir)
	require.NoError(t, err)
	after, err := os.Stat(second.Tar)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.True(t, os.SameFile(before, after), "the archive was written again")
}

func TestPackKeepsOnlyAFewArchives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, content := range []string{"1", "2", "3", "4", "5"} {
		_, err := images.Pack("atlas", program(t, content), dir)
		require.NoError(t, err)
	}
	_, err := images.Pack("pause", program(t, "1"), dir)
	require.NoError(t, err)
	kept, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	require.NoError(t, err)
	require.Len(t, kept, 4, "three of atlas, one of pause")
}

func TestBuildRefusesAnUnknownTarget(t *testing.T) {
	t.Parallel()
	_, err := images.Build(t.Context(), images.Target{Name: "nginx"}, images.Options{Cache: t.TempDir()})
	require.ErrorContains(t, err, `"nginx"`)
}

// checkout is the smallest one that Build can build from.
func checkout(t *testing.T, message string) string {
	t.Helper()
	dir := t.TempDir()
	main := "package main\n\nfunc main() { println(\"" + message + "\") }\n"
	for name, content := range map[string]string{"go.mod": "module example.com/atlas\n\ngo 1.26\n", "main.go": main, "services/main.go": main} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

func TestBuildDependsOnTheSourcesOnly(t *testing.T) {
	t.Parallel()
	build := func(target, root, cache string) images.Image {
		img, err := images.Build(t.Context(), images.Target{Name: target}, images.Options{Root: root, Cache: cache})
		require.NoError(t, err)
		return img
	}
	root, cache := checkout(t, "one"), t.TempDir()
	first := build("atlas", root, cache)
	require.Equal(t, first, build("atlas", root, cache))
	require.Equal(t, first.Ref, build("atlas", checkout(t, "one"), t.TempDir()).Ref, "neither the folder nor the cache matters")
	require.NotEqual(t, first.Ref, build("atlas", checkout(t, "two"), cache).Ref)
	require.NotEqual(t, first.Ref, build("operator", root, cache).Ref)
}
