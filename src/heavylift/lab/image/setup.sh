# Turns a fresh debootstrap tree into the lab's base image. Run by `chroot TREE sh -e /setup.sh PASSWORD`.
# Nothing of one host or one lab is in here: keys, names and addresses are written when a host is made.

for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer man-db.timer \
    console-getty.service getty@.service systemd-networkd-wait-online.service sys-kernel-debug.mount \
    sys-kernel-tracing.mount systemd-journal-flush.service systemd-update-utmp.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done

useradd --create-home --shell /bin/bash ops
useradd --create-home --shell /bin/bash opspw
printf 'opspw:%s\n' "$1" | chpasswd
printf 'ops ALL=(ALL) NOPASSWD: ALL\nopspw ALL=(ALL) ALL\n' > /etc/sudoers.d/lab
printf 'Defaults env_keep += "http_proxy https_proxy no_proxy SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE"\n' >> /etc/sudoers.d/lab
chmod 0440 /etc/sudoers.d/lab

update-ca-certificates
rm -f /etc/ssh/ssh_host_* /etc/resolv.conf /var/lib/dbus/machine-id
: > /etc/machine-id
: > /etc/resolv.conf
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/cache/apt/*.bin
