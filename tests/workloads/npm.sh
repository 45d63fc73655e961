# npm: packages with a program and a dependency are packed, installed from files, installed again by the lock file, removed.
export HOME=$W npm_config_offline=true npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false
mkdir -p low/lib high
for n in $(seq 100); do echo "module.exports = $n" > low/lib/$n.js; done
echo '{"name": "low", "version": "1.0.0", "main": "index.js"}' > low/package.json
echo 'let sum = 0; for (let n = 1; n <= 100; n++) sum += require(`./lib/${n}.js`); module.exports = sum' > low/index.js
(cd low && npm pack --silent)
printf '{"name": "high", "version": "2.0.0", "bin": {"speak": "speak.js"}, "dependencies": {"low": "file:%s/low/low-1.0.0.tgz"}}' "$W" > high/package.json
printf '#!/usr/bin/env node\nconsole.log("high says", require("low"))\n' > high/speak.js
chmod +x high/speak.js
(cd high && npm pack --silent)
mkdir project
cd project
npm init --yes > /dev/null
npm install --silent ../high/high-2.0.0.tgz
npx speak
rm -rf node_modules
npm ci --silent
npx speak
npm ls --all --parseable | sed "s|$W||"
npm uninstall --silent high
ls -A
npm cache verify | grep -c 'Content verified'
